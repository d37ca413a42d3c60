//! Tensors and notes in a safetensors file.
//!
//! Notes are `name = value` lines in the header's metadata entry `frazil`. The note `content` is a checksum
//! over all other notes and all tensors, so that any damage is detected. A file of another program has no
//! notes; its weights can be read.

use crate::digest::{Digest, Fnv1a};
use crate::error::{Error, Result};
use crate::{file, host_memory};
use safetensors::tensor::{Dtype, Metadata, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Version of the file format: the names of tensors and notes.
pub const VERSION: &str = "1";

/// Metadata entry of the header that contains the notes.
const ENTRY: &str = "frazil";

/// Description of the mask format, written to every file.
const MASK_FORMAT: &str = "u32 words, element i in bit i % 32 of word i / 32, 1 = frozen";

/// A tensor in host memory, stored as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bits: Vec<u32>,
}

impl Tensor {
    /// Tensor of `f32` elements, given as bits.
    pub fn f32_bits(shape: Vec<usize>, bits: Vec<u32>) -> Self {
        Tensor { dtype: Dtype::F32, shape, bits }
    }

    /// Tensor of `u32` elements.
    pub fn u32(shape: Vec<usize>, bits: Vec<u32>) -> Self {
        Tensor { dtype: Dtype::U32, shape, bits }
    }

    /// Element type: `f32` or `u32`; in a file of another program also `u8` or `bool`.
    pub fn dtype(&self) -> &'static str {
        match self.dtype {
            Dtype::F32 => "f32",
            Dtype::U8 => "u8",
            Dtype::BOOL => "bool",
            _ => "u32",
        }
    }

    /// Bytes of the elements as they are stored in a file.
    fn bytes(&self) -> Vec<u8> {
        match self.dtype {
            Dtype::U8 | Dtype::BOOL => self.bits.iter().map(|&bits| bits as u8).collect(),
            _ => self.bits.iter().flat_map(|bits| bits.to_le_bytes()).collect(),
        }
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bits of the elements, row-major, one word per element also for `u8` and `bool`.
    pub fn bits(&self) -> &[u32] {
        &self.bits
    }
}

/// Content of a checkpoint file: notes and named tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    notes: BTreeMap<String, String>,
    tensors: Vec<(String, Tensor)>,
    /// The position of each tensor in `tensors`, by name.
    index: HashMap<String, usize>,
    /// Names and element types of tensors that are not read because their type is not supported (only in
    /// files of other programs).
    other: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Adds or replaces a note. Neither name nor value may contain a line break.
    pub fn note(&mut self, name: &str, value: impl ToString) {
        self.notes.insert(name.to_owned(), value.to_string());
    }

    /// Adds a tensor.
    pub fn push(&mut self, name: String, tensor: Tensor) {
        self.index.entry(name.clone()).or_insert(self.tensors.len());
        self.tensors.push((name, tensor));
    }

    /// All notes; empty for a file of another program.
    pub fn notes(&self) -> &BTreeMap<String, String> {
        &self.notes
    }

    /// All tensors with their names; sorted by name if they were read from a file.
    pub fn tensors(&self) -> &[(String, Tensor)] {
        &self.tensors
    }

    /// Tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&position| &self.tensors[position].1)
    }

    /// Whether the file was written by this crate, and so has a checksum that was verified.
    pub fn is_own(&self) -> bool {
        !self.notes.is_empty()
    }

    /// Tensors of a file of another program that are not read because their element type is not supported,
    /// with that type.
    pub fn unread(&self) -> &BTreeMap<String, String> {
        &self.other
    }

    /// Checksum of every note except `content`, and of every tensor's name, type, shape and bits.
    fn content_checksum(&self) -> String {
        let mut fold = Fnv1a::default();
        for (name, value) in self.notes.iter().filter(|(name, _)| *name != "content") {
            fold.bytes(format!("{name} = {value}\n").as_bytes());
        }
        let mut tensors: Vec<_> = self.tensors.iter().collect();
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, tensor) in tensors {
            let kind = format!("{} {:?}", tensor.dtype(), tensor.shape);
            fold.digest(name, &kind, &Digest::of(tensor.bits.iter().copied().enumerate()));
        }
        format!("{:016x}", fold.value())
    }

    /// Checks that a note has this value; the error contains the expected and the actual value.
    pub(crate) fn expect(&self, name: &str, value: &str) -> std::result::Result<(), String> {
        match self.notes.get(name) {
            Some(got) if got == value => Ok(()),
            Some(got) => Err(format!("{name}: expected {value:?}, got {got:?}")),
            None => Err(format!("{name}: expected {value:?}, got none")),
        }
    }

    /// Parses a note as a number.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str) -> std::result::Result<N, String> {
        let text = self.notes.get(name).ok_or_else(|| format!("{name}: expected a number, got none"))?;
        text.parse().map_err(|_| format!("{name}: expected a number, got {text:?}"))
    }

    /// Tensor of this name, checked to have this type and shape.
    pub(crate) fn typed(
        &self,
        name: &str,
        dtype: &str,
        shape: &[usize],
    ) -> std::result::Result<&Tensor, String> {
        let expected = format!("tensor {name:?}: expected {dtype} {shape:?}");
        let Some(tensor) = self.tensor(name) else {
            let got = self.other.get(name).map_or("none", String::as_str);
            return Err(format!("{expected}, got {got}"));
        };
        if tensor.dtype() != dtype || tensor.shape != shape {
            return Err(format!("{expected}, got {} {:?}", tensor.dtype(), tensor.shape));
        }
        Ok(tensor)
    }

    /// Reads a file. Version and checksum of a file of this crate are verified. In a file of another program,
    /// tensors of other element types than `f32`, `u32`, `u8` and `bool` are listed in
    /// [`Checkpoint::unread`].
    ///
    /// # Errors
    /// - [`Error::Io`] if the file cannot be read, or is not a regular file;
    /// - [`Error::Checkpoint`] if it is not a safetensors file, or if it is a file of this crate that is
    ///   damaged or has another version;
    /// - [`Error::HostMemory`] if there is not enough host memory.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_bytes(&file::read(path)?, path)
    }

    /// [`Checkpoint::read`] for the content of a file that is in memory; `path` is its name in messages.
    ///
    /// # Errors
    /// As [`Checkpoint::read`], but for [`Error::Io`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        if let Some(kind) = file::other_format(bytes) {
            let why = format!("expected a safetensors file, got {kind}");
            return Err(Error::Checkpoint { path: path.to_owned(), why, source: None });
        }
        let invalid = |error: SafeTensorError| Error::Checkpoint {
            path: path.to_owned(),
            why: format!("not a complete safetensors file: {error}"),
            source: Some(error.into()),
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(invalid)?;
        let file = SafeTensors::deserialize(bytes).map_err(invalid)?;
        let error = |why| Error::Checkpoint { path: path.to_owned(), why, source: None };
        let mut checkpoint = Self::from_notes(&header).map_err(error)?;
        let mut views: Vec<_> = file.iter().collect();
        views.sort_by_key(|(name, _)| *name);
        for (name, view) in views {
            let dtype = view.dtype();
            let supported = match dtype {
                Dtype::F32 | Dtype::U32 => true,
                Dtype::U8 | Dtype::BOOL => !checkpoint.is_own(),
                _ => false,
            };
            if !supported && checkpoint.is_own() {
                return Err(error(format!("tensor {name:?}: expected F32 or U32, got {dtype:?}")));
            }
            if !supported {
                checkpoint.other.insert(name.to_owned(), format!("{dtype:?} {:?}", view.shape()));
                continue;
            }
            let mut bits = host_memory::reserve(view.shape().iter().product(), path.display())?;
            match dtype {
                Dtype::U8 | Dtype::BOOL => bits.extend(view.data().iter().map(|&byte| u32::from(byte))),
                _ => bits.extend(
                    view.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])),
                ),
            }
            checkpoint.push(name.to_owned(), Tensor { dtype, shape: view.shape().to_vec(), bits });
        }
        if checkpoint.is_own() {
            checkpoint.expect("version", VERSION).map_err(error)?;
            checkpoint.expect("mask", MASK_FORMAT).map_err(error)?;
            checkpoint.expect("content", &checkpoint.content_checksum()).map_err(error)?;
        }
        Ok(checkpoint)
    }

    fn from_notes(header: &Metadata) -> std::result::Result<Self, String> {
        let mut checkpoint = Checkpoint::default();
        // If notes of this crate are found under a key other than `frazil`, the key is damaged. Without this
        // error, the file would be read as one of another program, and its checksum would not be verified.
        let entries = header.metadata().iter().flatten();
        if let Some((key, _)) =
            entries.clone().find(|(key, value)| *key != ENTRY && value.contains("content = "))
        {
            return Err(format!(
                "expected notes under {ENTRY:?}, got them under {key:?}: the file is damaged"
            ));
        }
        if let Some(text) = header.metadata().as_ref().and_then(|entries| entries.get(ENTRY)) {
            for line in text.split('\n') {
                let (name, value) =
                    line.split_once(" = ").ok_or_else(|| format!("note {line:?}: expected NAME = VALUE"))?;
                checkpoint.note(name, value);
            }
        }
        Ok(checkpoint)
    }

    /// Writes a file atomically: to a temporary file with a unique name, that then replaces the old file. A
    /// crash leaves the old file intact. Symbolic links are followed, and the permissions of an old file are
    /// kept.
    ///
    /// # Errors
    /// - [`Error::Io`] if the file cannot be written;
    /// - [`Error::Checkpoint`] if a tensor's shape does not match its number of elements, two tensors have
    ///   the same name, or a note contains a line break.
    pub fn write(&self, path: &Path) -> Result<()> {
        file::write_atomically(path, &self.to_bytes(path)?)
    }

    /// Returns the content of the file that [`Checkpoint::write`] writes; `path` is its name in messages.
    ///
    /// # Errors
    /// As [`Checkpoint::write`], but for [`Error::Io`].
    pub fn to_bytes(&self, path: &Path) -> Result<Vec<u8>> {
        let invalid = |why: String| Error::Checkpoint { path: path.to_owned(), why, source: None };
        let refused = |error: SafeTensorError| Error::Checkpoint {
            path: path.to_owned(),
            why: error.to_string(),
            source: Some(error.into()),
        };
        let names: BTreeSet<_> = self.tensors.iter().map(|(name, _)| name).collect();
        if names.len() < self.tensors.len() {
            return Err(invalid("two tensors have the same name".to_owned()));
        }
        let mut complete = self.clone();
        complete.note("version", VERSION);
        complete.note("mask", MASK_FORMAT);
        complete.note("content", complete.content_checksum());
        let unwritable = |(name, value): &(&String, &String)| {
            name.contains(['\n', '\r']) || name.contains(" = ") || value.contains(['\n', '\r'])
        };
        if let Some((name, value)) = complete.notes.iter().find(unwritable) {
            let why = format!("note {name:?}: expected one line without \" = \" in its name, got {value:?}");
            return Err(invalid(why));
        }
        let bytes: Vec<Vec<u8>> = self.tensors.iter().map(|(_, tensor)| tensor.bytes()).collect();
        let views = self.tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
            Ok((name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), bytes)?))
        });
        let views = views.collect::<std::result::Result<Vec<_>, SafeTensorError>>().map_err(refused)?;
        // The notes are sorted lines of one metadata entry, because the format's map of entries is unordered:
        // equal checkpoints give equal files.
        let lines: Vec<_> = complete.notes.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let metadata = HashMap::from([(ENTRY.to_owned(), lines.join("\n"))]);
        safetensors::serialize(views, Some(metadata)).map_err(refused)
    }
}
