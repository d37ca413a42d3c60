//! Masks in safetensors files.

use super::{Mask, TensorView};
use crate::error::{Error, Result};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use std::path::Path;

/// The mask `tensor` of a file: u8 or bool an element, or packed u32 words; 1 = frozen.
pub(super) fn read(path: &Path, tensor: &str, view: &TensorView) -> Result<Mask> {
    let refused = |why: String, source| Error::Checkpoint { path: path.to_owned(), why, source };
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let file =
        SafeTensors::deserialize(&bytes).map_err(|error| refused(error.to_string(), Some(error.into())))?;
    let missing = |error: SafeTensorError| refused(format!("{tensor}: {error}"), Some(error.into()));
    let found = file.tensor(tensor).map_err(missing)?;
    let (len, data) = (view.elements(), found.data());
    let mismatch = |expected, got| Error::MaskMismatch { path: view.path.to_owned(), expected, got };
    match found.dtype() {
        Dtype::U8 | Dtype::BOOL if data.len() == len => Ok(Mask::from_frozen(data.iter().map(|&b| b != 0))),
        Dtype::U8 | Dtype::BOOL => Err(mismatch(len, data.len())),
        Dtype::U32 => {
            let word = |b: &[u8]| b.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
            let words: Vec<u32> = data.chunks(4).map(word).collect();
            if words.len() != len.div_ceil(32) {
                return Err(mismatch(len.div_ceil(32), words.len()));
            }
            Mask::from_words(words, len)
        }
        other => Err(refused(format!("{tensor}: expected U8, BOOL or packed U32, got {other:?}"), None)),
    }
}
