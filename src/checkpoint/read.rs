//! Reading: bytes of any kind become a checkpoint or an error.

use super::{Checkpoint, ENTRY, POLARITY, Tensor, VERSION};
use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, Metadata};
use safetensors::{SafeTensorError, SafeTensors};
use std::path::Path;

impl Checkpoint {
    /// Reads a file. If it has notes of this crate, its version and its checksum are checked.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] for anything that is no safetensors file of `f32` and `u32` tensors, for
    /// another version, and for damaged content.
    pub fn read(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        // A device or a pipe may never end.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            let why = "expected a regular file".to_owned();
            return Err(Error::Checkpoint { path: path.to_owned(), why, source: None });
        }
        let bytes = std::fs::read(path).map_err(io)?;
        let unreadable = |error: SafeTensorError| Error::Checkpoint {
            path: path.to_owned(),
            why: format!("not a valid safetensors file: {error}"),
            source: Some(error.into()),
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(unreadable)?;
        let file = SafeTensors::deserialize(&bytes).map_err(unreadable)?;
        parse(&header, &file).map_err(|why| Error::Checkpoint { path: path.to_owned(), why, source: None })
    }
}

/// The checkpoint in a file, or what is invalid in it.
fn parse(header: &Metadata, file: &SafeTensors) -> std::result::Result<Checkpoint, String> {
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
        checkpoint.expect("mask", POLARITY)?;
        checkpoint.expect("content", &checkpoint.content())?;
    }
    Ok(checkpoint)
}

impl Checkpoint {
    /// Checks that a note has this value.
    pub(crate) fn expect(&self, name: &str, value: &str) -> std::result::Result<(), String> {
        match self.notes.get(name) {
            Some(got) if got == value => Ok(()),
            Some(got) => Err(format!("{name}: expected {value:?}, got {got:?}")),
            None => Err(format!("{name}: expected {value:?}, got no such note")),
        }
    }

    /// A note as a number.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str) -> std::result::Result<N, String> {
        let text =
            self.notes.get(name).ok_or_else(|| format!("{name}: expected a number, got no such note"))?;
        text.parse().map_err(|_| format!("{name}: expected a number, got {text:?}"))
    }

    /// The tensor of this name, which must have this type and shape.
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
}
