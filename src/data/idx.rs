//! Reader of the IDX format of MNIST, Fashion-MNIST and similar data sets, plain or gzipped.
//!
//! The format (Y. LeCun, C. Cortes and C. Burges, the MNIST database): two zero bytes, a type (8 = unsigned
//! byte), the number of axes, each extent as a big-endian u32, then the elements, row-major.

use super::Dataset;
use crate::error::{Error, Result};
use crate::file;
use crate::host_memory;
use crate::shape::MAX_ELEMENTS;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Number of classes of MNIST and its variants.
const CLASSES: usize = 10;

/// Maximum compression ratio of DEFLATE, reached by the longest match encoded in the shortest code.
const DEFLATE_RATIO: u64 = 1032;

/// Reads the training set and the test set of an MNIST-like data set from a folder.
///
/// Files: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
/// `t10k-labels-idx1-ubyte`; a dot may stand before `idx` instead of the hyphen, and `.gz` at the end.
/// Examples have the shape `[rows, columns, 1]`; a pixel is from 0 to 1 in steps of 1/255.
///
/// # Errors
/// - [`Error::Data`] if a file is missing, is no IDX file of bytes, has another length than its header says,
///   or has a label of 10 or more; if the numbers of images and labels differ, or the image shapes of the two
///   sets do;
/// - [`Error::Io`] if a file cannot be read.
pub fn idx(folder: &Path) -> Result<(Dataset, Dataset)> {
    let (train, test) = (read_set(folder, "train")?, read_set(folder, "t10k")?);
    if train.example_shape() != test.example_shape() {
        let why = format!("expected images of {:?}, got {:?}", train.example_shape(), test.example_shape());
        return Err(error(&folder.join("t10k-images-idx3-ubyte"), "byte 8", why));
    }
    Ok((train, test))
}

fn read_set(folder: &Path, name: &str) -> Result<Dataset> {
    let (images, labels) = (find(folder, name, "images", 3)?, find(folder, name, "labels", 1)?);
    let (extents, pixels) = read(&images, 3)?;
    let (counts, classes) = read(&labels, 1)?;
    if counts[0] != extents[0] {
        let why = format!("expected {} labels, one for each image, got {}", extents[0], counts[0]);
        return Err(error(&labels, "byte 4", why));
    }
    if let Some(row) = classes.iter().position(|&class| usize::from(class) >= CLASSES) {
        let why = format!("expected a label below {CLASSES}, got {}", classes[row]);
        return Err(error(&labels, format!("byte {}", 8 + row), why));
    }
    let mut features = host_memory::reserve(pixels.len(), images.display())?;
    features.extend(pixels.iter().map(|&pixel| f32::from(pixel) / 255.0));
    let classes = classes.into_iter().map(u32::from).collect();
    let what = format!("{} ({name})", folder.display());
    Dataset::new(what, [extents[1], extents[2], 1], features, classes, CLASSES)
}

/// Returns the path of the first existing file among the accepted names.
fn find(folder: &Path, part: &str, what: &str, axes: usize) -> Result<PathBuf> {
    for separator in ["-", "."] {
        for suffix in ["", ".gz"] {
            let path = folder.join(format!("{part}-{what}{separator}idx{axes}-ubyte{suffix}"));
            if path.is_file() {
                return Ok(path);
            }
        }
    }
    let why = format!("expected {part}-{what}-idx{axes}-ubyte, plain or with .gz, found no such file");
    Err(error(folder, "folder", why))
}

/// Reads the extents and elements of a file with `axes` axes.
fn read(path: &Path, axes: usize) -> Result<(Vec<usize>, Vec<u8>)> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let (file, size) = file::open(path)?;
    let gzipped = path.extension().is_some_and(|extension| extension == "gz");
    let mut bytes: Box<dyn Read> =
        if gzipped { Box::new(flate2::read::GzDecoder::new(file)) } else { Box::new(file) };
    // An error of the decompressor is an error of the file's content ([`Error::Data`]), not of the system.
    let read_error = |why: std::io::Error| match gzipped {
        false => io(why),
        true => Error::Data {
            path: path.to_owned(),
            place: "gzip stream".to_owned(),
            why: why.to_string(),
            source: Some(why.into()),
        },
    };

    let mut header = vec![0; 4 + 4 * axes];
    let got = fill(&mut bytes, &mut header).map_err(read_error)?;
    if got < header.len() {
        let why = format!("expected a header of {} bytes, got {got}", header.len());
        return Err(error(path, format!("byte {got}"), why));
    }
    let magic = [0, 0, 8, axes as u8];
    if header[..4] != magic {
        let why = format!("expected {magic:02x?} (bytes, {axes} axes), got {:02x?}", &header[..4]);
        return Err(error(path, "byte 0", why));
    }
    let extents: Vec<usize> =
        header[4..].chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    if let Some(axis) = extents.iter().position(|&extent| extent == 0) {
        return Err(error(path, format!("byte {}", 4 + 4 * axis), "expected 1 or more, got 0"));
    }
    let elements = extents.iter().try_fold(1usize, |all, &extent| all.checked_mul(extent));
    let elements = elements.filter(|&all| all <= MAX_ELEMENTS).ok_or_else(|| {
        error(path, "byte 4", format!("expected at most {MAX_ELEMENTS} elements, got {extents:?}"))
    })?;

    // Compares the size in the header with the size of the file before memory is allocated for the elements.
    let needed = (header.len() + elements) as u64;
    let possible = if gzipped { size.saturating_mul(DEFLATE_RATIO) } else { size };
    if possible < needed || (!gzipped && size > needed) {
        let at_most = if gzipped { "at most " } else { "" };
        let why = format!("expected {needed} bytes for {extents:?}, got {at_most}{possible}");
        return Err(error(path, format!("byte {}", possible.min(needed)), why));
    }
    let mut values = host_memory::reserve(elements + 1, path.display())?;
    // Reads up to one byte more than expected, to detect trailing bytes.
    bytes.take(elements as u64 + 1).read_to_end(&mut values).map_err(read_error)?;
    if values.len() != elements {
        let got = header.len() + values.len();
        let more = if values.len() > elements { " or more" } else { "" };
        let why = format!("expected {needed} bytes for {extents:?}, got {got}{more}");
        return Err(error(path, format!("byte {}", needed.min(got as u64)), why));
    }
    Ok((extents, values))
}

/// Reads until the buffer is full or the stream ends; returns the number of bytes read.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match stream.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(got)
}

fn error(path: &Path, place: impl Into<String>, why: impl ToString) -> Error {
    Error::Data { path: path.to_owned(), place: place.into(), why: why.to_string(), source: None }
}
