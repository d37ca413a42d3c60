//! Reader of the CIFAR-10 data set (A. Krizhevsky, 2009) in its binary version.

use super::Dataset;
use crate::error::{Error, Result};
use crate::file;
use crate::host_memory;
use std::path::Path;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const CHANNELS: usize = 3;
/// Size in bytes of a record: a label, then the red, the green and the blue plane.
const RECORD: usize = 1 + CHANNELS * PLANE;
const CLASSES: usize = 10;
/// Name of the folder in the official archive.
const ARCHIVE_FOLDER: &str = "cifar-10-batches-bin";

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
    let subfolder = folder.join(ARCHIVE_FOLDER);
    let folder = if subfolder.is_dir() { &subfolder } else { folder };
    let batches: Vec<_> = (1..=5).map(|number| format!("data_batch_{number}.bin")).collect();
    let batches: Vec<_> = batches.iter().map(String::as_str).collect();
    Ok((read(folder, "train", &batches)?, read(folder, "test", &["test_batch.bin"])?))
}

fn read(folder: &Path, split: &str, files: &[&str]) -> Result<Dataset> {
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    for name in files {
        let path = folder.join(name);
        let error = |place: String, why: String| Error::Data { path: path.clone(), place, why, source: None };
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
        if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
            let why = format!("expected whole records of {RECORD} bytes, got {} bytes", bytes.len());
            return Err(error(format!("byte {}", bytes.len()), why));
        }
        let elements = bytes.len() / RECORD * (RECORD - 1);
        host_memory::extend(&mut features, elements, path.display())?;
        for (row, record) in bytes.chunks_exact(RECORD).enumerate() {
            let label = record[0];
            if usize::from(label) >= CLASSES {
                let why = format!("expected a label below {CLASSES}, got {label}");
                return Err(error(format!("byte {}", row * RECORD), why));
            }
            labels.push(u32::from(label));
            let planes = &record[1..];
            for pixel in 0..PLANE {
                let channels = (0..CHANNELS).map(|channel| planes[channel * PLANE + pixel]);
                features.extend(channels.map(|value| f32::from(value) / 255.0));
            }
        }
    }
    let name = format!("{} ({split})", folder.display());
    Dataset::new(name, [SIDE, SIDE, CHANNELS], features, labels, CLASSES)
}
