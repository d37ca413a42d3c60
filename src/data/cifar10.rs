//! CIFAR-10 (A. Krizhevsky, 2009) in its binary version.

use super::Dataset;
use crate::error::{Error, Result};
use std::path::Path;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const CHANNELS: usize = 3;
/// A label, then the red, the green and the blue plane.
const RECORD: usize = 1 + CHANNELS * PLANE;
const CLASSES: usize = 10;
/// The name of the folder in the archive.
const INNER: &str = "cifar-10-batches-bin";

/// The data sets to train on and to test with in a folder (or in its folder `cifar-10-batches-bin`):
/// `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, each of any number of records. Examples have the shape
/// `[32, 32, 3]`: the planes of the file become channels. A value is from 0 to 1 in steps of 1/255; no mean is taken off.
///
/// # Errors
/// [`Error::Data`] if a file is missing, is empty or does not end with a record, or holds a label of 10 or more;
/// [`Error::Io`].
pub fn cifar10(folder: &Path) -> Result<(Dataset, Dataset)> {
    let inner = folder.join(INNER);
    let place = if inner.is_dir() { &inner } else { folder };
    let batches: Vec<_> = (1..=5).map(|number| format!("data_batch_{number}.bin")).collect();
    let batches: Vec<_> = batches.iter().map(String::as_str).collect();
    Ok((part(place, "train", &batches)?, part(place, "test", &["test_batch.bin"])?))
}

fn part(folder: &Path, what: &str, files: &[&str]) -> Result<Dataset> {
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
        let bytes = std::fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
            let why = format!("expected whole records of {RECORD} bytes, got {} bytes", bytes.len());
            return Err(error(format!("byte {}", bytes.len()), why));
        }
        features.reserve(bytes.len() / RECORD * (RECORD - 1));
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
    let name = format!("{} ({what})", folder.display());
    Dataset::new(name, [SIDE, SIDE, CHANNELS], features, labels, CLASSES)
}
