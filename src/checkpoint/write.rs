//! Writing: the older file is replaced whole or not at all.

use super::{Checkpoint, ENTRY, POLARITY, VERSION};
use crate::error::{Error, Result};
use safetensors::tensor::TensorView;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

impl Checkpoint {
    /// Writes the file: to a file beside it first, which then takes its place, so that a crash leaves the older one.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] if a tensor's shape does not fit its elements, two have one name, or a note
    /// holds a line break.
    pub fn write(&self, path: &Path) -> Result<()> {
        let refused = |why: String| Error::Checkpoint { path: path.to_owned(), why, source: None };
        let unwritable = |error: safetensors::SafeTensorError| Error::Checkpoint {
            path: path.to_owned(),
            why: error.to_string(),
            source: Some(error.into()),
        };
        let names: BTreeSet<_> = self.tensors.iter().map(|(name, _)| name).collect();
        if names.len() < self.tensors.len() {
            return Err(refused("two tensors have one name".to_owned()));
        }
        let mut whole = self.clone();
        whole.note("version", VERSION);
        whole.note("mask", POLARITY);
        whole.note("content", whole.content());
        let broken = |(name, value): &(&String, &String)| {
            name.contains(['\n', '\r']) || name.contains(" = ") || value.contains(['\n', '\r'])
        };
        if let Some((name, value)) = whole.notes.iter().find(broken) {
            let why = format!("note {name:?}: expected one line without \" = \" in its name, got {value:?}");
            return Err(refused(why));
        }
        let bytes: Vec<Vec<u8>> =
            self.tensors.iter().map(|(_, t)| t.bits.iter().flat_map(|b| b.to_le_bytes()).collect()).collect();
        let views = self.tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
            Ok((name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), bytes)?))
        });
        let views = views
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(unwritable)?;
        // One entry, sorted: the format's own map has no order, and equal checkpoints are to be equal files.
        let lines: Vec<_> = whole.notes.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let notes = HashMap::from([(ENTRY.to_owned(), lines.join("\n"))]);
        let file = safetensors::serialize(views, Some(notes)).map_err(unwritable)?;
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
    std::fs::rename(&beside, path).map_err(io)?;
    sync_folder(path).map_err(io)
}

/// Makes the new name last through a loss of power; elsewhere than on Unix a folder cannot be opened for that.
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
