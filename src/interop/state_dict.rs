//! The tensors of a state dict, in a file of any format that can be read.

#[cfg(feature = "pytorch")]
use super::pytorch::TorchFile;
use super::weights::Stored;
use crate::error::{Error, Result};
use crate::file;
use safetensors::{SafeTensorError, SafeTensors};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

/// Beginning of a zip archive. A safetensors file begins with the size of its header, which may begin with `PK`.
const ZIP: [u8; 4] = *b"PK\x03\x04";

/// Beginning of a file of PyTorch before 1.6: a pickle of this number.
const OLD_TORCH: [u8; 15] =
    [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

/// A file with a state dict.
pub(super) struct StateDict {
    /// Types and shapes, by name.
    pub tensors: BTreeMap<String, Stored>,
    content: Content,
}

enum Content {
    Safetensors {
        bytes: Vec<u8>,
        ranges: BTreeMap<String, Range<usize>>,
    },
    #[cfg(feature = "pytorch")]
    Torch(TorchFile),
}

impl StateDict {
    /// Opens a file; its first bytes say which format it has.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::HostMemory`]; [`Error::Checkpoint`] if it is not a complete safetensors file, or one of
    /// PyTorch and the feature is disabled; [`Error::Data`] if a file of PyTorch is damaged or contains other things
    /// than tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let mut head = Vec::new();
        let (opened, _) = file::open(path)?;
        opened
            .take(16)
            .read_to_end(&mut head)
            .map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let (zip, old) = (head.starts_with(&ZIP), head.starts_with(&OLD_TORCH));
        #[cfg(feature = "pytorch")]
        if zip || old {
            let (file, tensors) =
                if zip { TorchFile::open_archive(path)? } else { TorchFile::open_old(path)? };
            return Ok(StateDict { tensors, content: Content::Torch(file) });
        }
        #[cfg(not(feature = "pytorch"))]
        if zip || old {
            let why = "expected a safetensors file, got one of torch.save: enable the feature `pytorch` of frazil, or \
                       save it with safetensors.torch.save_file";
            return Err(Error::Checkpoint { path: path.to_owned(), why: why.to_owned(), source: None });
        }
        Self::open_safetensors(path)
    }

    /// Whether the first bytes of a file are those of `torch.save` before PyTorch 1.6, which are no archive.
    pub fn is_of_torch(head: &[u8]) -> bool {
        head.starts_with(&OLD_TORCH)
    }

    /// Whether the file is a safetensors file.
    pub fn is_safetensors(&self) -> bool {
        matches!(self.content, Content::Safetensors { .. })
    }

    fn open_safetensors(path: &Path) -> Result<Self> {
        let bytes = file::read(path)?;
        if let Some(kind) = file::other_format(&bytes) {
            let why = format!("expected a safetensors file, got {kind}");
            return Err(Error::Checkpoint { path: path.to_owned(), why, source: None });
        }
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error: SafeTensorError| Error::Checkpoint {
                path: path.to_owned(),
                why: format!("not a complete safetensors file: {error}"),
                source: Some(error.into()),
            })?;
        // Behind the size of the header and the header.
        let begin = 8 + header;
        let (mut tensors, mut ranges) = (BTreeMap::new(), BTreeMap::new());
        for (name, info) in metadata.tensors() {
            let (first, end) = info.data_offsets;
            ranges.insert(name.clone(), begin + first..begin + end);
            tensors.insert(name, Stored { dtype: info.dtype, shape: info.shape.clone() });
        }
        Ok(StateDict { tensors, content: Content::Safetensors { bytes, ranges } })
    }

    /// The elements of a tensor, row-major and little-endian.
    ///
    /// # Errors
    /// As [`StateDict::open`].
    pub fn data(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        match (&self.content, self.tensors.get(name)) {
            (Content::Safetensors { bytes, ranges }, _) => {
                let range = ranges.get(name).cloned().unwrap_or_default();
                Ok(Cow::Borrowed(bytes.get(range).unwrap_or_default()))
            }
            #[cfg(feature = "pytorch")]
            (Content::Torch(file), Some(stored)) => Ok(Cow::Owned(file.read(name, stored)?)),
            #[cfg(feature = "pytorch")]
            (Content::Torch(_), None) => Ok(Cow::Borrowed(&[])),
        }
    }
}
