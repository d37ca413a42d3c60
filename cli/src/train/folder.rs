//! The output folder of a run: its lock, the files of earlier runs, and metrics.csv.

use crate::output::message;
use frazil::checkpoint::Checkpoint;
use frazil::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// An output folder, locked while a run writes to it.
pub struct Folder {
    path: PathBuf,
    _lock: Option<File>,
}

impl Folder {
    /// Locks a folder, and creates it if it does not exist.
    pub fn lock(path: &Path) -> Result<Self> {
        let io = |path: &Path, source| Error::Io { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(|source| io(path, source))?;
        let file = path.join(".lock");
        let lock = OpenOptions::new().create(true).append(true).open(&file);
        let lock = lock.map_err(|source| io(&file, source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Folder { path: path.to_owned(), _lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => Err(at_out(
                path,
                "a folder that no other run writes to; choose another, or wait for that run",
                "",
            )),
            Err(TryLockError::Error(source)) => Err(io(&file, source)),
        }
    }

    /// The folder of a run to which another process writes.
    pub fn of_another(path: &Path) -> Self {
        Folder { path: path.to_owned(), _lock: None }
    }

    pub fn weights(&self) -> PathBuf {
        self.path.join("weights.safetensors")
    }

    /// The checkpoint of the best epoch so far, while a run with --patience is going on.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// The checkpoint of weights that have diverged.
    pub fn diverged(&self) -> PathBuf {
        self.path.join("diverged.safetensors")
    }

    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.csv")
    }

    /// Returns the position (epoch, batch) of a checkpoint in the folder that a new run repeats: the identity
    /// is the same, and the new run is not shorter. Its results are then the same or go further.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the folder has another checkpoint.
    pub fn check_new(&self, run: &str, epochs: u64) -> Result<Option<(u64, u64)>> {
        let file = self.weights();
        if !file.exists() {
            return Ok(None);
        }
        let old = Checkpoint::read(&file).unwrap_or_default();
        let note = |name: &str| old.notes().get(&format!("note.{name}")).map(String::as_str);
        let number = |name: &str| note(name).and_then(|text| text.parse::<u64>().ok());
        match (number("epoch"), number("batch")) {
            (Some(epoch), Some(batch)) if note("run") == Some(run) && (epoch, batch) <= (epochs, 0) => {
                Ok(Some((epoch, batch)))
            }
            _ => {
                let expected = format!(
                    "a folder without the results of another run; choose another, or continue that run with \
                     --resume {}, or replace it with --overwrite",
                    file.display()
                );
                Err(at_out(&self.path, &expected, ", which has weights.safetensors"))
            }
        }
    }

    /// Returns an error if the folder has another checkpoint than the one that is resumed.
    pub fn check_resumed(&self, from: &Path) -> Result<()> {
        let file = self.weights();
        let same = matches!((file.canonicalize(), from.canonicalize()), (Ok(a), Ok(b)) if a == b);
        if same || !file.exists() {
            return Ok(());
        }
        let expected = format!(
            "the folder of {}, or one without results; choose another, or replace its results with --overwrite",
            from.display()
        );
        Err(at_out(&self.path, &expected, ", which has another weights.safetensors"))
    }
}

fn at_out(path: &Path, expected: &str, got: &str) -> Error {
    let got = format!("{}{got}", path.display());
    Error::InvalidArgument { at: "--out".to_owned(), expected: expected.to_owned(), got }
}

/// Number of columns: epoch, train_loss, train_accuracy, loss and accuracy of the evaluation, samples_per_s, run.
const COLUMNS: usize = 7;

/// metrics.csv, open for appending: one row for each epoch, which ends with the identity of its run.
pub struct Table {
    path: PathBuf,
    file: File,
    run: String,
    /// The last epoch that has a row.
    last: u64,
}

impl Table {
    /// Creates a table with the evaluation of `held` (`test` or `validation`), or after `epochs` epochs of a run continues an existing one. Rows of later epochs are
    /// removed: they are from a process that ended before it wrote its checkpoint.
    ///
    /// # Errors
    /// [`Error::Data`] if a row is of another run, unless such rows are removed with `overwrite`;
    /// [`Error::Io`].
    pub fn open(path: PathBuf, held: &str, run: &str, epochs: u64, overwrite: bool) -> Result<Self> {
        let io = |source| Error::Io { path: path.clone(), source };
        let old = match std::fs::read_to_string(&path) {
            Ok(text) if epochs > 0 => text,
            Err(source) if epochs > 0 && source.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(source));
            }
            _ => String::new(),
        };
        let mut text =
            format!("epoch,train_loss,train_accuracy,{held}_loss,{held}_accuracy,samples_per_s,run\n");
        let (mut rows, mut last) = (0, 0);
        for (number, line) in (1..).zip(old.lines()).skip(1) {
            let Some((epoch, of)) = row(line) else { continue };
            if of != run {
                if overwrite {
                    continue;
                }
                return Err(Error::Data {
                    path,
                    place: format!("line {number}"),
                    why: format!(
                        "expected a row of run {run}, as the checkpoint, got run {of}; resume into another folder with \
                         --out, or remove such rows with --overwrite"
                    ),
                    source: None,
                });
            }
            if epoch <= epochs {
                text.push_str(line);
                text.push('\n');
                rows += 1;
                last = epoch;
            }
        }
        if !old.is_empty() && rows < epochs {
            let path = path.display();
            message(format_args!(
                "warning: {path} has rows of {rows} of the first {epochs} epochs of this run"
            ));
        }
        // The temporary file has a unique name, because another run may write one at the same time.
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut partial =
            tempfile::Builder::new().make_in(folder, |path| File::create_new(path)).map_err(io)?;
        partial.write_all(text.as_bytes()).and_then(|()| partial.as_file().sync_all()).map_err(io)?;
        partial.persist(&path).map_err(|failed| io(failed.error))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(io)?;
        Ok(Table { path, file, run: run.to_owned(), last })
    }

    /// Appends the row of an epoch with a single write, unless a run that is repeated has written it. `row` is
    /// all columns but the first and the last.
    pub fn add(&mut self, epoch: u64, row: &str) -> Result<()> {
        if epoch <= self.last {
            return Ok(());
        }
        let line = format!("{epoch},{row},{}\n", self.run);
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| Error::Io { path: self.path.clone(), source })
    }
}

/// The epoch and the run of a complete row.
fn row(line: &str) -> Option<(u64, &str)> {
    let columns: Vec<_> = line.split(',').collect();
    let epoch = columns.first()?.parse().ok()?;
    (columns.len() == COLUMNS).then_some((epoch, *columns.last()?))
}
