//! The part of HDF5 in which Keras saves weights: groups, and datasets that are stored in one piece.
//!
//! Reads superblocks of versions 0 to 3, groups with symbol tables or with links in their header, and contiguous
//! and compact datasets. Positions in the file are checked at each read; every loop has a limit.

use crate::floats::Float;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Beginning of a file.
pub(super) const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Maximum number of groups inside each other.
const MAX_DEPTH: usize = 16;

/// Maximum number of links.
const MAX_LINKS: usize = 1 << 16;

/// Maximum number of messages, nodes and links that are read, repeated ones included.
const MAX_STEPS: usize = 1 << 20;

/// Maximum length of a name.
const MAX_NAME: usize = 256;

/// Address of nothing.
const UNDEFINED: u64 = u64::MAX;

/// Why a file is refused, and where.
pub(super) struct Refused {
    pub byte: usize,
    pub why: String,
}

type Read<T> = Result<T, Refused>;

/// A dataset: an array with a name.
pub(super) struct Dataset {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// `None` for numbers that are not floating-point, text and others.
    pub float: Option<Float>,
    /// The bytes of the elements in the file, or why they cannot be read.
    pub data: Result<Range<usize>, String>,
}

/// Lists the datasets of a file by their paths, such as `layers/dense/vars/0`.
pub(super) fn datasets(bytes: &[u8]) -> Read<BTreeMap<String, Dataset>> {
    let file = File { bytes, steps: Cell::new(0) };
    let mut found = BTreeMap::new();
    // An object may have several links; the first one names it.
    let mut visited = BTreeSet::new();
    let mut open = vec![(String::new(), file.root()?, 0)];
    while let Some((path, address, depth)) = open.pop() {
        if !visited.insert(address) {
            continue;
        }
        let object = file.object(address)?;
        if let Some(dataset) = object.dataset {
            found.insert(path, dataset);
            continue;
        }
        if depth == MAX_DEPTH || visited.len() + open.len() + object.links.len() > MAX_LINKS {
            let why = format!(
                "expected at most {MAX_DEPTH} groups inside each other and {MAX_LINKS} links, got more"
            );
            return Err(file.refuse(address, why));
        }
        for (name, address) in object.links {
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            open.push((path, address, depth + 1));
        }
    }
    Ok(found)
}

struct File<'a> {
    bytes: &'a [u8],
    /// Number of messages, nodes and links read so far.
    steps: Cell<usize>,
}

/// What the messages of an object say.
#[derive(Default)]
struct Object {
    links: Vec<(String, u64)>,
    dataset: Option<Dataset>,
}

/// A reader at a position in the file.
struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let end = self.position.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.position..end)).ok_or_else(|| {
            let why = format!("expected {length} more bytes, got the end of the file");
            Refused { byte: self.position, why }
        })?;
        self.position += length;
        Ok(taken)
    }

    /// A little-endian number of at most 8 bytes.
    fn number(&mut self, bytes: usize) -> Read<u64> {
        let taken = self.take(bytes)?;
        Ok(taken.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn byte(&mut self) -> Read<u8> {
        Ok(self.number(1)? as u8)
    }

    fn address(&mut self) -> Read<u64> {
        self.number(8)
    }

    fn skip(&mut self, bytes: usize) -> Read<()> {
        self.take(bytes).map(drop)
    }

    fn expect(&mut self, signature: &str) -> Read<()> {
        let byte = self.position;
        let got = self.take(signature.len())?;
        if got == signature.as_bytes() {
            return Ok(());
        }
        Err(Refused {
            byte,
            why: format!("expected the signature {signature:?}, got {got:02x?}: the file is damaged"),
        })
    }
}

impl<'a> File<'a> {
    fn refuse(&self, address: u64, why: String) -> Refused {
        Refused { byte: usize::try_from(address).unwrap_or(usize::MAX), why }
    }

    /// Counts a step, so that structures that refer to each other end.
    fn step(&self, address: u64) -> Read<()> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() <= MAX_STEPS {
            return Ok(());
        }
        Err(self.refuse(address, format!("expected at most {MAX_STEPS} messages and links, got more")))
    }

    fn at(&self, address: u64) -> Read<Cursor<'a>> {
        match usize::try_from(address) {
            Ok(position) if position < self.bytes.len() => Ok(Cursor { bytes: self.bytes, position }),
            _ => Err(self.refuse(
                address,
                format!("expected a position in the {} bytes of the file", self.bytes.len()),
            )),
        }
    }

    /// The address of the root group's header.
    fn root(&self) -> Read<u64> {
        let mut cursor = self.at(0)?;
        if cursor.take(SIGNATURE.len())? != SIGNATURE {
            return Err(self.refuse(0, "expected an HDF5 file, got another".to_owned()));
        }
        let version = cursor.byte()?;
        let sizes = match version {
            0 | 1 => {
                cursor.skip(4)?;
                [cursor.byte()?, cursor.byte()?]
            }
            2 | 3 => [cursor.byte()?, cursor.byte()?],
            _ => {
                return Err(self.refuse(8, format!("expected a superblock of version 0 to 3, got {version}")));
            }
        };
        if sizes != [8, 8] {
            return Err(self.refuse(13, format!("expected addresses and lengths of 8 bytes, got {sizes:?}")));
        }
        cursor.skip(match version {
            0 => 9,
            1 => 13,
            _ => 1,
        })?;
        let base = cursor.address()?;
        if base != 0 {
            return Err(self.refuse(24, format!("expected the base address 0, got {base}")));
        }
        // Versions 0 and 1: free space, end of file, driver and the name in the root's entry. Later: extension and
        // end of file.
        cursor.skip(if version < 2 { 32 } else { 16 })?;
        cursor.address()
    }

    /// Reads the messages of an object's header.
    fn object(&self, address: u64) -> Read<Object> {
        let mut cursor = self.at(address)?;
        let new = cursor.bytes[cursor.position..].starts_with(b"OHDR");
        let mut ordered = false;
        let size = if new {
            cursor.expect("OHDR")?;
            let (version, flags) = (cursor.byte()?, cursor.byte()?);
            if version != 2 {
                return Err(
                    self.refuse(address, format!("expected an object header of version 2, got {version}"))
                );
            }
            ordered = flags & 4 != 0;
            cursor.skip(if flags & 0x20 != 0 { 16 } else { 0 } + if flags & 0x10 != 0 { 4 } else { 0 })?;
            cursor.number(1 << (flags & 3))?
        } else {
            let version = cursor.byte()?;
            if version != 1 {
                return Err(self
                    .refuse(address, format!("expected an object header of version 1 or 2, got {version}")));
            }
            cursor.skip(7)?;
            let size = cursor.number(4)?;
            cursor.skip(4)?;
            size
        };
        let mut messages = Messages::default();
        let mut blocks = vec![(cursor.position as u64, size)];
        while let Some((begin, size)) = blocks.pop() {
            let mut cursor = self.at(begin)?;
            let end = cursor.position.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
            let header = match (new, ordered) {
                (false, _) => 8,
                (true, false) => 4,
                (true, true) => 6,
            };
            // A gap at the end is smaller than a header.
            while cursor.position.saturating_add(header) <= end {
                self.step(address)?;
                let (kind, length, flags);
                if new {
                    (kind, length, flags) = (cursor.number(1)?, cursor.number(2)?, cursor.number(1)?);
                    cursor.skip(if ordered { 2 } else { 0 })?;
                } else {
                    (kind, length, flags) = (cursor.number(2)?, cursor.number(2)?, cursor.number(1)?);
                    cursor.skip(3)?;
                }
                let position = cursor.position;
                let data =
                    Cursor { bytes: &self.bytes[..position + cursor.take(length as usize)?.len()], position };
                if flags & 2 != 0 {
                    // The message is somewhere else, shared by objects; Keras writes none.
                    continue;
                }
                if kind == 0x10 {
                    let mut data = data;
                    let (begin, size) = (data.address()?, data.number(8)?);
                    // New blocks have a signature and end with a checksum.
                    blocks.push(if new {
                        self.at(begin)?.expect("OCHK")?;
                        (begin.saturating_add(4), size.saturating_sub(8))
                    } else {
                        (begin, size)
                    });
                } else {
                    self.message(kind, data, &mut messages)?;
                }
            }
        }
        messages.object(self.bytes.len())
    }

    fn message(&self, kind: u64, mut data: Cursor<'a>, messages: &mut Messages) -> Read<()> {
        match kind {
            // Dataspace.
            1 => {
                let (version, rank) = (data.byte()?, data.byte()?);
                data.skip(if version == 1 { 6 } else { 2 })?;
                if !matches!(version, 1 | 2) || rank > 32 {
                    let why = format!(
                        "expected a shape of version 1 or 2 and at most 32 axes, got version {version}"
                    );
                    return Err(Refused { byte: data.position, why });
                }
                let extents = (0..rank).map(|_| data.number(8));
                messages.shape = Some(extents.collect::<Read<Vec<_>>>()?);
            }
            // Links of a new group: in this header, or in a heap.
            2 => {
                let (_version, flags) = (data.byte()?, data.byte()?);
                data.skip(if flags & 1 != 0 { 8 } else { 0 })?;
                if data.address()? != UNDEFINED {
                    let why = "expected groups in the format that h5py writes by default, got a heap of links: save \
                               the file again with libver=\"earliest\"";
                    return Err(Refused { byte: data.position, why: why.to_owned() });
                }
            }
            3 => messages.element = Some(element(&mut data)?),
            6 => {
                let (version, flags) = (data.byte()?, data.byte()?);
                let kind = if flags & 8 != 0 { data.byte()? } else { 0 };
                data.skip(if flags & 4 != 0 { 8 } else { 0 } + usize::from(flags & 0x10 != 0))?;
                let length = data.number(1 << (flags & 3))? as usize;
                let name = name(data.position, data.take(length)?)?;
                if version != 1 {
                    return Err(Refused {
                        byte: data.position,
                        why: format!("expected a link of version 1, got {version}"),
                    });
                }
                // Soft and external links are not followed.
                if kind == 0 {
                    messages.links.push((name, data.address()?));
                }
            }
            8 => messages.layout = Some(layout(&mut data)?),
            0x11 => {
                let (tree, heap) = (data.address()?, data.address()?);
                messages.links.extend(self.symbols(tree, heap)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The links of a group with a symbol table: a tree of nodes, with names in a heap.
    fn symbols(&self, tree: u64, heap: u64) -> Read<Vec<(String, u64)>> {
        let mut cursor = self.at(heap)?;
        cursor.expect("HEAP")?;
        cursor.skip(4)?;
        let size = usize::try_from(cursor.number(8)?).unwrap_or(usize::MAX);
        cursor.skip(8)?;
        let begin = self.at(cursor.address()?)?.position;
        let names = &self.bytes[begin..begin.saturating_add(size).min(self.bytes.len())];
        let mut links = Vec::new();
        let mut visited = BTreeSet::new();
        let mut open = vec![tree];
        while let Some(address) = open.pop() {
            if !visited.insert(address) {
                return Err(self.refuse(address, "expected a tree of symbols, got a cycle".to_owned()));
            }
            let mut node = self.at(address)?;
            if !node.bytes[node.position..].starts_with(b"SNOD") {
                node.expect("TREE")?;
                node.skip(2)?;
                let children = node.number(2)?;
                node.skip(16)?;
                for _ in 0..children {
                    // A key is between the addresses of two children.
                    self.step(address)?;
                    node.skip(8)?;
                    open.push(node.address()?);
                }
                continue;
            }
            node.skip(6)?;
            for _ in 0..node.number(2)? {
                self.step(address)?;
                let (offset, header) = (node.number(8)?, node.address()?);
                // Type 2 is a soft link.
                let kind = node.number(4)?;
                node.skip(20)?;
                if kind == 2 {
                    continue;
                }
                let text =
                    usize::try_from(offset).ok().and_then(|offset| names.get(offset..)).unwrap_or_default();
                let length = text.iter().take(MAX_NAME + 1).position(|&byte| byte == 0);
                links.push((name(node.position, &text[..length.unwrap_or(text.len())])?, header));
            }
        }
        Ok(links)
    }
}

#[derive(Default)]
struct Messages {
    shape: Option<Vec<u64>>,
    element: Option<(Option<Float>, u64)>,
    layout: Option<Result<(u64, u64), String>>,
    links: Vec<(String, u64)>,
}

impl Messages {
    fn object(self, file: usize) -> Read<Object> {
        let (Some(shape), Some((float, bytes)), Some(layout)) = (self.shape, self.element, self.layout)
        else {
            return Ok(Object { links: self.links, dataset: None });
        };
        let elements = shape.iter().try_fold(1u64, |all, &extent| all.checked_mul(extent));
        let size = elements.and_then(|elements| elements.checked_mul(bytes));
        let data = layout.and_then(|(begin, stored)| {
            if size == Some(0) {
                return Ok(0..0);
            }
            let end = begin.checked_add(stored).filter(|&end| size == Some(stored) && end <= file as u64);
            end.map(|end| begin as usize..end as usize)
                .ok_or_else(|| format!("expected the bytes of {shape:?} elements of {bytes} bytes in the file, got {stored} bytes at {begin}"))
        });
        let shape = shape.iter().map(|&extent| usize::try_from(extent).unwrap_or(usize::MAX)).collect();
        Ok(Object { links: Vec::new(), dataset: Some(Dataset { shape, float, data }) })
    }
}

/// An element type: the kind of float, if it is one, and the size in bytes.
fn element(data: &mut Cursor) -> Read<(Option<Float>, u64)> {
    let class = data.byte()? & 15;
    let order = data.byte()?;
    data.skip(2)?;
    let size = data.number(4)?;
    if class != 1 {
        return Ok((None, size));
    }
    data.skip(5)?;
    let exponent = data.byte()?;
    let little = order & 0x41 == 0;
    let float = match (size, exponent, little) {
        (2, 5, true) => Some(Float::F16),
        (2, 8, true) => Some(Float::BF16),
        (4, 8, true) => Some(Float::F32),
        (8, 11, true) => Some(Float::F64),
        _ => None,
    };
    Ok((float, size))
}

/// Where the elements are: position and size, or why they cannot be read.
fn layout(data: &mut Cursor) -> Read<Result<(u64, u64), String>> {
    let (version, class) = (data.byte()?, data.byte()?);
    Ok(match (version, class) {
        (3 | 4, 0) => {
            let size = data.number(2)?;
            Ok((data.position as u64, size))
        }
        (3 | 4, 1) => Ok((data.address()?, data.number(8)?)),
        (_, 2) => Err("expected elements in one piece, as Keras writes them, got chunks".to_owned()),
        _ => Err(format!("expected a layout of version 3 or 4, got {version}")),
    })
}

fn name(byte: usize, bytes: &[u8]) -> Read<String> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty() && text.len() <= MAX_NAME);
    text.map(str::to_owned).ok_or_else(|| Refused {
        byte,
        why: format!("expected a name of 1 to {MAX_NAME} bytes in UTF-8, got {} bytes", bytes.len()),
    })
}
