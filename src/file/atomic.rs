//! Atomic writes of files.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes a file atomically: to a temporary file with a unique name in the same folder, which then replaces
/// the old file. Symbolic links are followed, and the permissions of an old file are kept.
///
/// # Errors
/// [`Error::Io`]. The old file is then unchanged, and the temporary file is removed.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let error = |source| Error::Io { path: path.to_owned(), source };
    let target = resolve_links(path).map_err(error)?;
    let folder = folder_of(&target);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".frazil-").suffix(".partial");
    let permissions = std::fs::metadata(&target).ok().map(|metadata| metadata.permissions());
    // `make_in` creates the file with default permissions, because it replaces a normal file. A file from
    // `tempfile`'s own constructor would be readable by its owner only.
    let mut file = builder.make_in(&folder, |path| File::create_new(path)).map_err(error)?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions).map_err(error)?;
    }
    file.write_all(bytes).map_err(error)?;
    file.as_file().sync_all().map_err(error)?;
    file.persist(&target).map_err(|failed| error(failed.error))?;
    sync_folder(&folder).map_err(error)
}

/// Follows symbolic links, and returns the path of the file behind them, which need not exist.
fn resolve_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    // Follow at most 40 links, which is also Linux's limit, so that a cycle ends.
    for _ in 0..40 {
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_symlink() => {
                let link = std::fs::read_link(&path)?;
                path = folder_of(&path).join(link);
            }
            _ => return Ok(path),
        }
    }
    Err(io::Error::other("expected a file, got a cycle of symbolic links"))
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Flushes a folder, so that a rename survives a loss of power. Only Unix can open a folder for flushing.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
