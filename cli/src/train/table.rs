//! metrics.csv: a row an epoch.

use frazil::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

const HEAD: &str = "epoch,train_loss,train_accuracy,test_loss,test_accuracy,samples_per_s";

/// The table of a run, open at its end.
pub struct Table {
    path: PathBuf,
    file: File,
}

impl Table {
    /// Begins a table; or, after `epochs` epochs, goes on with the one that is there: its rows of those epochs are kept,
    /// and later ones, of a run that was ended before it wrote its weights, are cut off.
    pub fn open(path: PathBuf, epochs: u64) -> Result<Self> {
        let io = |source| Error::Io { path: path.clone(), source };
        let old = match std::fs::read_to_string(&path) {
            Ok(text) if epochs > 0 => text,
            Err(source) if epochs > 0 && source.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(source));
            }
            _ => String::new(),
        };
        let mut text = format!("{HEAD}\n");
        for line in old.lines().skip(1).filter(|line| is_row(line, epochs)) {
            text.push_str(line);
            text.push('\n');
        }
        let beside = path.with_extension("csv.partial");
        std::fs::write(&beside, text).map_err(io)?;
        std::fs::rename(&beside, &path).map_err(io)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(io)?;
        Ok(Table { path, file })
    }

    /// Appends a row, in one write.
    pub fn add(&mut self, row: &str) -> Result<()> {
        let written = self.file.write_all(format!("{row}\n").as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a line is a whole row of one of the first `epochs` epochs.
fn is_row(line: &str, epochs: u64) -> bool {
    let number = line.split(',').next().and_then(|first| first.parse::<u64>().ok());
    number.is_some_and(|n| n <= epochs) && line.split(',').count() == HEAD.split(',').count()
}
