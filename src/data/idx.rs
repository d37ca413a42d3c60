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
    read_sets(&path.display().to_string(), |parts, what, axes| {
        let names = names(parts, what, axes).map(|name| {
            let Some(prefix) = prefix else { return folder.join(name) };
            let mut path = prefix.to_owned();
            path.push("-");
            path.push(name);
            folder.join(path)
        });
        let Some(path) = names.into_iter().find(|path| path.is_file()) else {
            let begin = prefix.map_or(String::new(), |prefix| format!("{}-", prefix.display()));
            let expected = format!("{begin}{}-{what}-idx{}-ubyte", parts[0], axes[0]);
            let why = format!(
                "expected {expected}, plain or with .gz, found no such file; if the names of the files begin \
                 with another word, append it to the folder: FOLDER/WORD"
            );
            return Err(error(folder, "folder", why));
        };
        let (file, size) = file::open(&path)?;
        Ok(Stream { path, bytes: Box::new(file), size })
    })
}

/// Reads the training set and the test set of an MNIST-like data set from the names and contents of its four files, as
/// [`idx()`] does from a folder: for platforms without files. The names may begin with anything; `name` is that of the
/// data set.
///
/// # Errors
/// [`Error::Data`] and [`Error::HostMemory`], as [`idx()`]; [`Error::Data`] for two files with the same part.
pub fn idx_in_memory(name: &str, files: &[(&str, &[u8])]) -> Result<(Dataset, Dataset)> {
    read_sets(name, |parts, what, axes| {
        let endings: Vec<_> = names(parts, what, axes).collect();
        let is_named = |name: &str| {
            let ends = |ending: &String| match name.strip_suffix(ending.as_str()) {
                Some(begin) => begin.is_empty() || begin.ends_with(['-', '_', '/']),
                None => false,
            };
            endings.iter().any(ends)
        };
        let found: Vec<_> = files.iter().filter(|(name, _)| is_named(name)).collect();
        let [(path, bytes)] = found[..] else {
            let all = files.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let why = format!(
                "expected one file {}-{what}-idx{}-ubyte, plain or with .gz, got {} among {all}",
                parts[0],
                axes[0],
                found.len()
            );
            return Err(error(Path::new(name), "files", why));
        };
        Ok(Stream { path: path.into(), bytes: Box::new(*bytes), size: bytes.len() as u64 })
    })
}

/// The content of a file.
struct Stream<'a> {
    path: PathBuf,
    bytes: Box<dyn Read + 'a>,
    size: u64,
}

/// One of the two sets.
struct Set {
    images: PathBuf,
    /// Shape of an image.
    shape: [usize; 3],
    features: Vec<f32>,
    labels: Vec<u32>,
}

/// Reads both sets; `open(parts, what, axes)` opens the file that has one of the [`names`].
fn read_sets<'a>(
    name: &str,
    open: impl Fn(&[&str], &str, &[usize]) -> Result<Stream<'a>>,
) -> Result<(Dataset, Dataset)> {
    let (train, test) = (read_set(&["train"], &open)?, read_set(&["t10k", "test"], &open)?);
    if train.shape != test.shape {
        let why = format!("expected images of {:?}, got {:?}", train.shape, test.shape);
        return Err(error(&test.images, "byte 8", why));
    }
    let largest = train.labels.iter().chain(&test.labels).max().copied().unwrap_or(0);
    let data = |set: Set, part: &str| {
        let name = format!("{name} ({part})");
        Dataset::new(name, set.shape, set.features, set.labels, largest as usize + 1)
    };
    Ok((data(train, "train")?, data(test, "test")?))
}

fn read_set<'a>(
    parts: &[&str],
    open: &impl Fn(&[&str], &str, &[usize]) -> Result<Stream<'a>>,
) -> Result<Set> {
    let (images, labels) = (open(parts, "images", &IMAGES)?, open(parts, "labels", &LABELS)?);
    let (images_path, labels_path) = (images.path.clone(), labels.path.clone());
    let (extents, pixels) = read(images, &IMAGES)?;
    let (counts, classes) = read(labels, &LABELS)?;
    if counts[0] != extents[0] {
        let why = format!("expected {} labels, one for each image, got {}", extents[0], counts[0]);
        return Err(error(&labels_path, "byte 4", why));
    }
    let mut features = host_memory::reserve(pixels.len(), images_path.display())?;
    features.extend(pixels.iter().map(|&pixel| f32::from(pixel) / 255.0));
    let shape = [extents[1], extents[2], extents.get(3).copied().unwrap_or(1)];
    let labels = classes.into_iter().map(u32::from).collect();
    Ok(Set { images: images_path, shape, features, labels })
}

/// The accepted names of a file, without what may stand before them.
fn names(parts: &[&str], what: &str, axes: &[usize]) -> impl Iterator<Item = String> {
    let mut names = Vec::new();
    for part in parts {
        for (separator, axes) in ["-", "."].iter().flat_map(|s| axes.iter().map(move |axes| (s, axes))) {
            for suffix in ["", ".gz"] {
                names.push(format!("{part}-{what}{separator}idx{axes}-ubyte{suffix}"));
            }
        }
    }
    names.into_iter()
}

/// Reads the extents and elements of a file with one of these numbers of axes.
fn read(Stream { path, bytes, size }: Stream<'_>, axes: &[usize]) -> Result<(Vec<usize>, Vec<u8>)> {
    let path = path.as_path();
    let io = |source| Error::Io { path: path.to_owned(), source };
    let gzipped = path.extension().is_some_and(|extension| extension == "gz");
    let mut bytes = if gzipped { Box::new(flate2::read::GzDecoder::new(bytes)) } else { bytes };
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
