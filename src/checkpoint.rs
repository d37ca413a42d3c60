//! Tensors with notes in a safetensors file.

use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The version of the names and notes in a file.
const VERSION: &str = "1";

/// A tensor in host memory, by its bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bits: Vec<u32>,
}

impl Tensor {
    /// Floats, by their bits.
    pub fn f32_bits(shape: Vec<usize>, bits: Vec<u32>) -> Self {
        Tensor { dtype: Dtype::F32, shape, bits }
    }

    /// Unsigned integers.
    pub fn u32(shape: Vec<usize>, bits: Vec<u32>) -> Self {
        Tensor { dtype: Dtype::U32, shape, bits }
    }
}

/// What goes into a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    notes: BTreeMap<String, String>,
    tensors: Vec<(String, Tensor)>,
}

impl Checkpoint {
    /// Adds a note to the file's header.
    pub fn note(&mut self, name: &str, value: impl ToString) {
        self.notes.insert(name.to_owned(), value.to_string());
    }

    /// Adds a tensor.
    pub fn push(&mut self, name: String, tensor: Tensor) {
        self.tensors.push((name, tensor));
    }

    /// Writes the file: to a file beside it first, which then takes its place, so that a crash leaves the older one.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] if a tensor's shape does not fit its elements.
    pub fn write(&self, path: &Path) -> Result<()> {
        let refused = |error: safetensors::SafeTensorError| Error::Checkpoint {
            path: path.to_owned(),
            why: error.to_string(),
        };
        let names: BTreeSet<_> = self.tensors.iter().map(|(name, _)| name).collect();
        if names.len() < self.tensors.len() {
            let why = "two tensors have one name".to_owned();
            return Err(Error::Checkpoint { path: path.to_owned(), why });
        }
        let bytes: Vec<Vec<u8>> =
            self.tensors.iter().map(|(_, t)| t.bits.iter().flat_map(|b| b.to_le_bytes()).collect()).collect();
        let views = self.tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
            Ok((name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), bytes)?))
        });
        let views = views.collect::<std::result::Result<Vec<_>, _>>().map_err(refused)?;
        let mut notes = self.notes.clone();
        notes.insert("version".into(), VERSION.into());
        notes.insert("mask".into(), "u32 words, element i in bit i % 32 of word i / 32, 1 = frozen".into());
        // One entry, sorted: the format's own map has no order, and equal checkpoints are to be equal files.
        let lines: Vec<_> = notes.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let notes = HashMap::from([("frazil".to_owned(), lines.join("\n"))]);
        let file = safetensors::serialize(views, Some(notes)).map_err(refused)?;
        write_atomically(path, &file)
    }
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let beside = PathBuf::from(beside);
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut file = File::create(&beside).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.sync_all().map_err(io)?;
    std::fs::rename(&beside, path).map_err(io)
}
