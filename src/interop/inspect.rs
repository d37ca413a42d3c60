//! Lists what a file of any format contains.

use super::contents::{FileContents, TensorEntry};
#[cfg(feature = "keras")]
use super::hdf5;
#[cfg(feature = "keras")]
use super::keras;
use super::onnx;
use super::state_dict::StateDict;
use super::weights::Stored;
use crate::error::{Error, Result};
#[cfg(feature = "npz")]
use crate::file::zip::Archive;
use crate::{file, npy};
use std::io::Read;
use std::path::Path;

/// Lists the tensors of a file, and the operators, inputs and outputs of an ONNX file. Its first bytes say which
/// format it has: safetensors, `torch.save` (needs the feature `pytorch`), Keras's `.weights.h5` and `.keras` (`keras`),
/// `.npy`, `.npz` (`npz`) or ONNX. Weights are not converted, and operators need not be ones that
/// [`read_onnx`](super::read_onnx) reads.
///
/// ```
/// use frazil::interop::{contents, npy};
///
/// let file = std::env::temp_dir().join("frazil-contents.npy");
/// npy::write(&file, &[2, 3], &[0.0; 6])?;
/// let found = contents(&file)?;
/// assert_eq!((found.format, found.tensors[0].dtype.as_str()), ("NumPy array", "f32"));
/// assert_eq!(found.tensors[0].shape, [2, 3]);
/// # std::fs::remove_file(&file).unwrap();
/// # Ok::<(), frazil::Error>(())
/// ```
///
/// # Errors
/// [`Error::Io`], [`Error::HostMemory`]; [`Error::Data`] if the file has none of these formats, or is damaged;
/// [`Error::Checkpoint`] for an incomplete safetensors file, or if the file needs a feature that is disabled.
pub fn contents(path: impl AsRef<Path>) -> Result<FileContents> {
    let path = path.as_ref();
    let mut head = Vec::new();
    let (opened, size) = file::open(path)?;
    opened.take(16).read_to_end(&mut head).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    if head.starts_with(npy::MAGIC) {
        return Ok(FileContents {
            format: "NumPy array",
            tensors: vec![array(String::new(), npy::describe(path, "", &file::read(path)?)?)],
            ..FileContents::default()
        });
    }
    if head.starts_with(b"PK\x03\x04") {
        return archive(path);
    }
    if head.starts_with(b"\x89HDF\r\n\x1a\n") {
        return hdf5(path, "Keras weights", "", &file::read(path)?);
    }
    // A safetensors file begins with the size of its header, which is an object.
    let header = head.first_chunk().map_or(u64::MAX, |&bytes| u64::from_le_bytes(bytes));
    if StateDict::is_of_torch(&head) || (head.get(8) == Some(&b'{') && header < size) {
        return state_dict(path);
    }
    let bytes = file::read(path)?;
    if let Some(kind) = file::other_format(&bytes) {
        let why = format!("{EXPECTED}, got {kind}");
        return Err(Error::Data { path: path.to_owned(), place: "byte 0".into(), why, source: None });
    }
    onnx::contents(&bytes).map_err(|why| Error::Data {
        path: path.to_owned(),
        place: "byte 0".into(),
        why: crate::error::printable(&format!("{EXPECTED}; as ONNX: {why}")),
        source: None,
    })
}

const EXPECTED: &str = "expected a file of safetensors, PyTorch, Keras, NumPy or ONNX";

fn array(name: String, (dtype, shape): (String, Vec<usize>)) -> TensorEntry {
    TensorEntry { name, dtype, shape }
}

fn state_dict(path: &Path) -> Result<FileContents> {
    let dict = StateDict::open(path)?;
    let tensor = |(name, stored): (&String, &Stored)| TensorEntry {
        name: name.clone(),
        dtype: format!("{:?}", stored.dtype).to_lowercase(),
        shape: stored.shape.clone(),
    };
    let tensors = dict.tensors.iter().map(tensor).collect();
    let format = if dict.is_safetensors() { "safetensors" } else { "PyTorch" };
    Ok(FileContents { format, tensors, ..FileContents::default() })
}

#[cfg(feature = "npz")]
fn archive(path: &Path) -> Result<FileContents> {
    let archive = Archive::open(path)?;
    #[cfg(feature = "keras")]
    if archive.entry(keras::WEIGHTS).is_some() {
        let bytes = archive.read(keras::WEIGHTS, u64::MAX)?;
        return hdf5(path, "Keras model", &format!("entry {:?}, ", keras::WEIGHTS), &bytes);
    }
    if archive.names().any(|name| name.ends_with("/data.pkl")) {
        return state_dict(path);
    }
    let mut tensors = Vec::new();
    for entry in archive.names() {
        let Some(name) = entry.strip_suffix(".npy") else {
            let why = format!("{EXPECTED}, got an archive with this entry");
            return Err(Error::Data {
                path: path.to_owned(),
                place: format!("entry {entry:?}"),
                why,
                source: None,
            });
        };
        let bytes = archive.read(entry, u64::MAX)?;
        tensors.push(array(name.to_owned(), npy::describe(path, &format!("entry {entry:?}, "), &bytes)?));
    }
    Ok(FileContents { format: "NumPy arrays", tensors, ..FileContents::default() })
}

#[cfg(not(feature = "npz"))]
fn archive(path: &Path) -> Result<FileContents> {
    Err(disabled(path, "`npz`, `pytorch` or `keras`"))
}

#[cfg(feature = "keras")]
fn hdf5(path: &Path, format: &'static str, place: &str, bytes: &[u8]) -> Result<FileContents> {
    let datasets = hdf5::datasets(bytes).map_err(|refused| Error::Data {
        path: path.to_owned(),
        place: format!("{place}byte {}", refused.byte),
        why: refused.why,
        source: None,
    })?;
    let tensors = datasets.into_iter().map(|(name, dataset)| TensorEntry {
        name,
        dtype: dataset.float.map_or("other".to_owned(), |float| format!("{float:?}").to_lowercase()),
        shape: dataset.shape,
    });
    Ok(FileContents { format, tensors: tensors.collect(), ..FileContents::default() })
}

#[cfg(not(feature = "keras"))]
fn hdf5(path: &Path, _format: &str, _place: &str, _bytes: &[u8]) -> Result<FileContents> {
    Err(disabled(path, "`keras`"))
}

#[cfg(not(feature = "keras"))]
fn disabled(path: &Path, feature: &str) -> Error {
    let why = format!("expected a format that is enabled: enable the feature {feature} of frazil to read it");
    Error::Checkpoint { path: path.to_owned(), why, source: None }
}
