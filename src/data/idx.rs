//! Reader of the IDX format of MNIST, Fashion-MNIST and similar data sets, plain or gzipped.
//!
//! The format (Y. LeCun, C. Cortes and C. Burges, the MNIST database): two zero bytes, a type (8 = unsigned
//! byte), the number of axes, each extent as a big-endian u32, then the elements, row-major.

use super::Dataset;
use crate::error::{Error, Result};
use crate::file;
use crate::host_memory;
use crate::shape::MAX_ELEMENTS;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Maximum compression ratio of DEFLATE, reached by the longest match encoded in the shortest code.
const DEFLATE_RATIO: u64 = 1032;

/// Axes of a file of images, and of a file of labels.
const IMAGES: [usize; 2] = [3, 4];
const LABELS: [usize; 1] = [1];

/// Reads the training set and the test set of an MNIST-like data set from a folder.
///
/// Files: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
/// `t10k-labels-idx1-ubyte`; a dot may stand before `idx` instead of the hyphen, `test` instead of `t10k`, and
/// `.gz` at the end. Where files begin with a name, such as `emnist-letters-train-images-idx3-ubyte`, `path` is
/// that of the folder and the name: `FOLDER/emnist-letters`.
///
/// Examples have the shape `[rows, columns, 1]`, or, for files of images with four axes (`idx4`), `[rows,
/// columns, channels]`; a pixel is from 0 to 1 in steps of 1/255. The number of classes is the largest label of
/// both sets plus 1.
///
/// # Errors
/// - [`Error::Data`] if a file is missing, is no IDX file of bytes, or has another length than its header says;
///   if the numbers of images and labels differ, or the image shapes of the two sets do;
/// - [`Error::Io`] if a file cannot be read; [`Error::HostMemory`] if there is not enough host memory.
pub fn idx(path: &Path) -> Result<(Dataset, Dataset)> {
    let (folder, prefix) = match (path.is_dir(), path.parent(), path.file_name()) {
        (false, Some(folder), Some(prefix)) => (folder, Some(prefix)),
        _ => (path, None),
    };
    let names = Names { folder, prefix };
    let (train, test) = (names.read_set(&["train"])?, names.read_set(&["t10k", "test"])?);
    if train.shape != test.shape {
        let why = format!("expected images of {:?}, got {:?}", train.shape, test.shape);
        return Err(error(&test.images, "byte 8", why));
    }
    let largest = train.labels.iter().chain(&test.labels).max().copied().unwrap_or(0);
    let data = |set: Set, part: &str| {
        let name = format!("{} ({part})", path.display());
        Dataset::new(name, set.shape, set.features, set.labels, largest as usize + 1)
    };
    Ok((data(train, "train")?, data(test, "test")?))
}

/// The names of the files of a data set.
struct Names<'a> {
    folder: &'a Path,
    /// What all names begin with, before a hyphen.
    prefix: Option<&'a OsStr>,
}

/// One of the two sets.
struct Set {
    images: PathBuf,
    /// Shape of an image.
    shape: [usize; 3],
    features: Vec<f32>,
    labels: Vec<u32>,
}

impl Names<'_> {
    fn read_set(&self, parts: &[&str]) -> Result<Set> {
        let images = self.find(parts, "images", &IMAGES)?;
        let labels = self.find(parts, "labels", &LABELS)?;
        let (extents, pixels) = read(&images, &IMAGES)?;
        let (counts, classes) = read(&labels, &LABELS)?;
        if counts[0] != extents[0] {
            let why = format!("expected {} labels, one for each image, got {}", extents[0], counts[0]);
            return Err(error(&labels, "byte 4", why));
        }
        let mut features = host_memory::reserve(pixels.len(), images.display())?;
        features.extend(pixels.iter().map(|&pixel| f32::from(pixel) / 255.0));
        let shape = [extents[1], extents[2], extents.get(3).copied().unwrap_or(1)];
        Ok(Set { images, shape, features, labels: classes.into_iter().map(u32::from).collect() })
    }

    /// Returns the path of the first existing file among the accepted names.
    fn find(&self, parts: &[&str], what: &str, axes: &[usize]) -> Result<PathBuf> {
        for part in parts {
            for (separator, axes) in ["-", "."].iter().flat_map(|s| axes.iter().map(move |axes| (s, axes))) {
                for suffix in ["", ".gz"] {
                    let mut name = self.prefix.map_or(OsString::new(), OsStr::to_owned);
                    name.push(if self.prefix.is_some() { "-" } else { "" });
                    name.push(format!("{part}-{what}{separator}idx{axes}-ubyte{suffix}"));
                    let path = self.folder.join(name);
                    if path.is_file() {
                        return Ok(path);
                    }
                }
            }
        }
        let begin = self.prefix.map_or(String::new(), |prefix| format!("{}-", prefix.display()));
        let expected = format!("{begin}{}-{what}-idx{}-ubyte", parts[0], axes[0]);
        let why = format!(
            "expected {expected}, plain or with .gz, found no such file; if the names of the files begin with \
             another word, append it to the folder: FOLDER/WORD"
        );
        Err(error(self.folder, "folder", why))
    }
}

/// Reads the extents and elements of a file with one of these numbers of axes.
fn read(path: &Path, axes: &[usize]) -> Result<(Vec<usize>, Vec<u8>)> {
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

    let mut magic = [0; 4];
    let got = fill(&mut bytes, &mut magic).map_err(read_error)?;
    let number = if got == 4 && axes.contains(&magic[3].into()) { magic[3].into() } else { axes[0] };
    let mut header = vec![0; 4 * number];
    let got = got + if got == 4 { fill(&mut bytes, &mut header).map_err(read_error)? } else { 0 };
    let header_bytes = 4 + header.len();
    if got < header_bytes {
        let why = format!("expected a header of {header_bytes} bytes, got {got}");
        return Err(error(path, format!("byte {got}"), why));
    }
    let expected = [0, 0, 8, number as u8];
    if magic != expected {
        let axes = axes.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ");
        let why = format!("expected {expected:02x?} (bytes, {axes} axes), got {magic:02x?}");
        return Err(error(path, "byte 0", why));
    }
    let extents: Vec<usize> =
        header.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    if let Some(axis) = extents.iter().position(|&extent| extent == 0) {
        return Err(error(path, format!("byte {}", 4 + 4 * axis), "expected 1 or more, got 0"));
    }
    let elements = extents.iter().try_fold(1usize, |all, &extent| all.checked_mul(extent));
    let elements = elements.filter(|&all| all <= MAX_ELEMENTS).ok_or_else(|| {
        error(path, "byte 4", format!("expected at most {MAX_ELEMENTS} elements, got {extents:?}"))
    })?;

    // Compares the size in the header with the size of the file before memory is allocated for the elements.
    let needed = (header_bytes + elements) as u64;
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
        let got = header_bytes + values.len();
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
