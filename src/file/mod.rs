//! Bounded reads of regular files, atomic writes, and zip archives.

#[cfg(not(target_family = "wasm"))]
mod atomic;
#[cfg(feature = "npz")]
pub(crate) mod zip;

#[cfg(not(target_family = "wasm"))]
pub(crate) use atomic::write_atomically;

use crate::error::{Error, Result};
use crate::host_memory;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file and returns it with its size in bytes.
///
/// # Errors
/// [`Error::Io`], also for a folder, a device or a pipe, where a read might never end.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let error = |source| Error::Io { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(error)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a folder" } else { "a device or a pipe" };
        let message = format!("expected a regular file, got {kind}");
        return Err(error(io::Error::new(io::ErrorKind::InvalidInput, message)));
    }
    Ok((File::open(path).map_err(error)?, metadata.len()))
}

/// Reads a regular file.
///
/// # Errors
/// [`Error::Io`]; [`Error::HostMemory`] if there is not enough host memory for its content.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let (file, size) = open(path)?;
    let size_in_memory = usize::try_from(size).unwrap_or(usize::MAX);
    let mut bytes = host_memory::reserve(size_in_memory, path.display())?;
    // Reads no more than the reserved size, even if the file grows meanwhile.
    file.take(size).read_to_end(&mut bytes).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// Fails: there are no files.
///
/// # Errors
/// [`Error::Io`].
#[cfg(target_family = "wasm")]
pub(crate) fn write_atomically(path: &Path, _bytes: &[u8]) -> Result<()> {
    Err(Error::Io { path: path.to_owned(), source: io::ErrorKind::Unsupported.into() })
}

/// Recognizes the content of a format that is often passed instead of a safetensors file; returns its name and
/// how to convert it.
pub(crate) fn other_format(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => {
            Some("a NumPy array: save it with safetensors.numpy.save_file")
        }
        [0x1f, 0x8b, ..] => Some("a gzip stream: unpack it first"),
        [b'P', b'K', 3, 4, ..] => Some(
            "a zip archive, such as a PyTorch file: read it with interop, or save it with safetensors.torch.save_file",
        ),
        // A safetensors file with a header of such a size has `{` behind it.
        [0x80, 2..=5, _, _, _, _, _, _, last, ..] if *last != b'{' => {
            Some("a pickle, which is not run: save the weights alone with torch.save(net.state_dict(), FILE)")
        }
        _ => None,
    }
}
