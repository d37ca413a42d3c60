//! Checkpoints: tensors and notes in a safetensors file.
//!
//! Notes are `name = value` lines in the header's metadata entry `frazil`. The note `content` is a checksum over all other
//! notes and all tensors, so that any damage is detected. A file of another program has no notes; its weights can be read.

use crate::error::{Error, Result};
use crate::kernels::Digest;
use crate::mask::Mask;
use safetensors::tensor::Metadata;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Version of the names and notes in a file.
pub const VERSION: &str = "1";

/// Metadata entry of the header that holds the notes.
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

    /// Element type: `f32` or `u32`.
    pub fn dtype(&self) -> &'static str {
        if self.dtype == Dtype::F32 { "f32" } else { "u32" }
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bits of the elements, row-major.
    pub fn bits(&self) -> &[u32] {
        &self.bits
    }
}

/// Content of a checkpoint file: notes and named tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    notes: BTreeMap<String, String>,
    tensors: Vec<(String, Tensor)>,
}

impl Checkpoint {
    /// Adds or replaces a note. Neither name nor value may contain a line break.
    pub fn note(&mut self, name: &str, value: impl ToString) {
        self.notes.insert(name.to_owned(), value.to_string());
    }

    /// Adds a tensor.
    pub fn push(&mut self, name: String, tensor: Tensor) {
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
        self.tensors.iter().find(|(other, _)| other == name).map(|(_, tensor)| tensor)
    }

    /// Paths of the parameters, in the model's order; for a file of another program, all `f32` tensors by name.
    pub fn parameters(&self) -> Vec<&str> {
        let mut numbered: Vec<(usize, &str)> = Vec::new();
        for (name, path) in &self.notes {
            if let Some(Ok(number)) = name.strip_prefix("parameter.").map(str::parse) {
                numbered.push((number, path));
            }
        }
        numbered.sort_unstable();
        if !numbered.is_empty() {
            return numbered.into_iter().map(|(_, path)| path).collect();
        }
        self.tensors.iter().filter(|(_, t)| t.dtype() == "f32").map(|(name, _)| name.as_str()).collect()
    }

    /// Names of the optimizer state tensors of each parameter.
    pub fn slots(&self) -> Vec<&str> {
        self.notes.get("slots").map_or(Vec::new(), |text| text.split_whitespace().collect())
    }

    /// Mask of a parameter; nothing is frozen if the file has no mask for it, or one of another length.
    pub fn mask(&self, path: &str) -> Mask {
        let len = self.tensor(path).map_or(0, |tensor| tensor.bits.len());
        let stored = self.tensor(&format!("mask.{path}"));
        let mask = stored.and_then(|tensor| Mask::from_words(tensor.bits.clone(), len).ok());
        mask.unwrap_or_else(|| Mask::none(len))
    }

    /// Digest of all weights and of the state tensors in `slots`, or of their frozen elements only.
    pub fn digest(&self, slots: &[&str], frozen: bool) -> u64 {
        self.fold(slots, frozen).value()
    }

    /// Digest of the frozen elements of all weights and state; equals that of [`crate::trainer::FreezeReport`].
    pub fn frozen_digest(&self) -> u64 {
        self.digest(&self.slots(), true)
    }

    /// Digest of all weights, all state and the step; equals [`crate::Trainer::digest`]. `None` if the file has no step.
    pub fn training_digest(&self) -> Option<u64> {
        let step: u64 = self.number("step").ok()?;
        let mut fold = self.fold(&self.slots(), false);
        fold.bytes(&step.to_le_bytes());
        Some(fold.value())
    }

    fn fold(&self, slots: &[&str], frozen: bool) -> Fold {
        let mut fold = Fold::default();
        for slot in std::iter::once(None).chain(slots.iter().map(Some)) {
            for path in self.parameters() {
                let name = slot.map_or(path.to_owned(), |slot| format!("state.{slot}.{path}"));
                let bits = self.tensor(&name).map_or(&[][..], |tensor| tensor.bits());
                let mask = self.mask(path);
                let elements = bits.iter().copied().enumerate();
                let digest = Digest::of(elements.filter(|(index, _)| !frozen || mask.is_frozen(*index)));
                fold.digest(path, slot.unwrap_or(&"weight"), &digest);
            }
        }
        fold
    }

    /// Checksum of every note except `content`, and of every tensor's name, type, shape and bits.
    fn content_checksum(&self) -> String {
        let mut fold = Fold::default();
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

    /// Checks that a note has this value; the error says what was expected.
    pub(crate) fn expect(&self, name: &str, value: &str) -> std::result::Result<(), String> {
        match self.notes.get(name) {
            Some(got) if got == value => Ok(()),
            Some(got) => Err(format!("{name}: expected {value:?}, got {got:?}")),
            None => Err(format!("{name}: expected {value:?}, got no such note")),
        }
    }

    /// Parses a note as a number.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str) -> std::result::Result<N, String> {
        let text =
            self.notes.get(name).ok_or_else(|| format!("{name}: expected a number, got no such note"))?;
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
        let tensor = self.tensor(name).ok_or_else(|| format!("{expected}, got no such tensor"))?;
        if tensor.dtype() != dtype || tensor.shape != shape {
            return Err(format!("{expected}, got {} {:?}", tensor.dtype(), tensor.shape));
        }
        Ok(tensor)
    }

    /// Reads a file. If it has notes, its version and its checksum are verified.
    ///
    /// # Errors
    /// - [`Error::Io`] if the file cannot be read;
    /// - [`Error::Checkpoint`] if it is not a regular file, not a safetensors file of `f32` and `u32` tensors, of another
    ///   version, or damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        // Reading a device or a pipe might never end.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            let why = "expected a regular file".to_owned();
            return Err(Error::Checkpoint { path: path.to_owned(), why, source: None });
        }
        let bytes = std::fs::read(path).map_err(io)?;
        let invalid = |error: SafeTensorError| Error::Checkpoint {
            path: path.to_owned(),
            why: format!("not a complete safetensors file: {error}"),
            source: Some(error.into()),
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(invalid)?;
        let file = SafeTensors::deserialize(&bytes).map_err(invalid)?;
        Self::from_parts(&header, &file).map_err(|why| Error::Checkpoint {
            path: path.to_owned(),
            why,
            source: None,
        })
    }

    fn from_parts(header: &Metadata, file: &SafeTensors) -> std::result::Result<Self, String> {
        let mut checkpoint = Checkpoint::default();
        if let Some(text) = header.metadata().as_ref().and_then(|entries| entries.get(ENTRY)) {
            for line in text.split('\n') {
                let (name, value) =
                    line.split_once(" = ").ok_or_else(|| format!("note {line:?}: expected NAME = VALUE"))?;
                checkpoint.note(name, value);
            }
        }
        for (name, view) in file.iter() {
            if !matches!(view.dtype(), Dtype::F32 | Dtype::U32) {
                return Err(format!("tensor {name:?}: expected F32 or U32, got {:?}", view.dtype()));
            }
            let bits = view.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            let tensor = Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bits: bits.collect() };
            checkpoint.push(name.to_owned(), tensor);
        }
        checkpoint.tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        if !checkpoint.notes.is_empty() {
            checkpoint.expect("version", VERSION)?;
            checkpoint.expect("mask", MASK_FORMAT)?;
            checkpoint.expect("content", &checkpoint.content_checksum())?;
        }
        Ok(checkpoint)
    }

    /// Writes a file atomically: to a temporary file, `.partial` appended to its name, that then replaces the old file. A
    /// crash leaves the old file intact.
    ///
    /// # Errors
    /// - [`Error::Io`] if the file cannot be written;
    /// - [`Error::Checkpoint`] if a tensor's shape does not match its number of elements, two tensors have the same name, or
    ///   a note contains a line break.
    pub fn write(&self, path: &Path) -> Result<()> {
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
        let bytes: Vec<Vec<u8>> =
            self.tensors.iter().map(|(_, t)| t.bits.iter().flat_map(|b| b.to_le_bytes()).collect()).collect();
        let views = self.tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
            Ok((name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), bytes)?))
        });
        let views = views.collect::<std::result::Result<Vec<_>, SafeTensorError>>().map_err(refused)?;
        // One metadata entry with sorted lines: the format's own map is unordered, and equal checkpoints give equal files.
        let lines: Vec<_> = complete.notes.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let metadata = HashMap::from([(ENTRY.to_owned(), lines.join("\n"))]);
        let file = safetensors::serialize(views, Some(metadata)).map_err(refused)?;
        write_atomically(path, &file)
    }
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut file = File::create(&partial).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.sync_all().map_err(io)?;
    std::fs::rename(&partial, path).map_err(io)?;
    sync_folder(path).map_err(io)
}

/// Flushes the folder of `path`, so that a rename survives a loss of power. Only Unix can open a folder for that.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// FNV-1a hash over names and digests.
pub(crate) struct Fold(u64);

impl Default for Fold {
    fn default() -> Self {
        Fold(0xcbf2_9ce4_8422_2325)
    }
}

impl Fold {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    /// Adds the digest of a tensor: `what` of the parameter `path`.
    pub(crate) fn digest(&mut self, path: &str, what: &str, digest: &Digest) {
        self.bytes(path.as_bytes());
        self.bytes(what.as_bytes());
        self.bytes(&digest.value().to_le_bytes());
    }

    pub(crate) fn value(&self) -> u64 {
        self.0
    }
}
