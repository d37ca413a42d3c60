//! Readers of the CIFAR-10 and CIFAR-100 data sets (A. Krizhevsky, 2009) in their binary versions.

use super::Dataset;
use crate::error::{Error, Result};
use crate::file;
use crate::host_memory;
use std::path::Path;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const CHANNELS: usize = 3;

/// How one of the two data sets is stored.
struct Format {
    /// Name of the folder in the official archive.
    folder: &'static str,
    /// Number of label bytes before the red, the green and the blue plane of a record; the last one is used.
    labels: usize,
    classes: usize,
}

const CIFAR10: Format = Format { folder: "cifar-10-batches-bin", labels: 1, classes: 10 };
const CIFAR100: Format = Format { folder: "cifar-100-binary", labels: 2, classes: 100 };

/// Reads the training set and the test set of CIFAR-10 from a folder, or from its subfolder
/// `cifar-10-batches-bin`.
///
/// Files: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, each of any number of records.
/// Examples have the shape `[32, 32, 3]`: the file's planes become channels. Values are from 0 to 1 in steps
/// of 1/255, without subtraction of a mean.
///
/// # Errors
/// - [`Error::Data`] if a file is missing, is empty, does not end at the end of a record, or has a label of
///   10 or more;
/// - [`Error::Io`] if a file cannot be read.
pub fn cifar10(folder: &Path) -> Result<(Dataset, Dataset)> {
    let batches: Vec<_> = (1..=5).map(|number| format!("data_batch_{number}.bin")).collect();
    let batches: Vec<_> = batches.iter().map(String::as_str).collect();
    CIFAR10.read_both(folder, &batches, "test_batch.bin")
}

/// Reads the training set and the test set of CIFAR-100 from a folder, or from its subfolder
/// `cifar-100-binary`: the files `train.bin` and `test.bin`. Labels are the 100 fine ones; examples are as those of
/// [`cifar10`].
///
/// # Errors
/// As [`cifar10`], with 100 classes.
pub fn cifar100(folder: &Path) -> Result<(Dataset, Dataset)> {
    CIFAR100.read_both(folder, &["train.bin"], "test.bin")
}

impl Format {
    fn read_both(&self, folder: &Path, train: &[&str], test: &str) -> Result<(Dataset, Dataset)> {
        let subfolder = folder.join(self.folder);
        let folder = if subfolder.is_dir() { &subfolder } else { folder };
        Ok((self.read(folder, "train", train)?, self.read(folder, "test", &[test])?))
    }

    fn read(&self, folder: &Path, part: &str, files: &[&str]) -> Result<Dataset> {
        let record_bytes = self.labels + CHANNELS * PLANE;
        let (mut features, mut labels) = (Vec::new(), Vec::new());
        for name in files {
            let path = folder.join(name);
            let error =
                |place: String, why: String| Error::Data { path: path.clone(), place, why, source: None };
            if !path.is_file() {
                let why = format!("expected {name}, found no such file");
                return Err(Error::Data {
                    path: folder.to_owned(),
                    place: "folder".to_owned(),
                    why,
                    source: None,
                });
            }
            let bytes = file::read(&path)?;
            if bytes.is_empty() || !bytes.len().is_multiple_of(record_bytes) {
                let why =
                    format!("expected whole records of {record_bytes} bytes, got {} bytes", bytes.len());
                return Err(error(format!("byte {}", bytes.len()), why));
            }
            let elements = bytes.len() / record_bytes * CHANNELS * PLANE;
            host_memory::extend(&mut features, elements, path.display())?;
            for (row, record) in bytes.chunks_exact(record_bytes).enumerate() {
                let (label_bytes, planes) = record.split_at(self.labels);
                let label = label_bytes[self.labels - 1];
                if usize::from(label) >= self.classes {
                    let why = format!("expected a label below {}, got {label}", self.classes);
                    return Err(error(
                        format!("byte {}", (row + 1) * record_bytes - CHANNELS * PLANE - 1),
                        why,
                    ));
                }
                labels.push(u32::from(label));
                for pixel in 0..PLANE {
                    let channels = (0..CHANNELS).map(|channel| planes[channel * PLANE + pixel]);
                    features.extend(channels.map(|value| f32::from(value) / 255.0));
                }
            }
        }
        let name = format!("{} ({part})", folder.display());
        Dataset::new(name, [SIDE, SIDE, CHANNELS], features, labels, self.classes)
    }
}
