//! Arrays in NumPy's formats: `.npy`, and `.npz` with the feature of that name.

use crate::error::{Error, Result};
#[cfg(feature = "npz")]
use crate::file::zip;
use crate::floats::Float;
use crate::{file, host_memory};
use std::fmt::Write;
use std::io::Read;
use std::path::Path;

/// Beginning of a `.npy` file.
pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// Maximum size of a header, the limit of NumPy.
const MAX_HEADER: usize = 10_000;

/// Maximum number of axes of an array, the limit of NumPy.
const MAX_AXES: usize = 64;

/// An array from a file, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Extents, outermost first; empty for a single number.
    pub shape: Vec<usize>,
    /// The elements, row-major also if the file has Fortran's order.
    pub elements: Elements,
}

/// The elements of an [`Array`].
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// Floating-point numbers: `float32`, or `float16` and `float64` as the nearest `f32`.
    F32(Vec<f32>),
    /// `int64` and smaller signed integers.
    I64(Vec<i64>),
    /// `uint8`.
    U8(Vec<u8>),
    /// `bool`.
    Bool(Vec<bool>),
}

impl Elements {
    fn name(&self) -> &'static str {
        match self {
            Elements::F32(_) => "floating-point numbers",
            Elements::I64(_) => "integers",
            Elements::U8(_) => "uint8",
            Elements::Bool(_) => "bool",
        }
    }
}

impl Array {
    /// The elements as `f32`, such as inputs of a network. Integers are converted if `f32` represents each.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an integer that `f32` does not represent, with its index.
    pub fn into_f32(self) -> Result<Vec<f32>> {
        match self.elements {
            Elements::F32(values) => Ok(values),
            Elements::U8(values) => Ok(values.into_iter().map(f32::from).collect()),
            Elements::Bool(values) => Ok(values.into_iter().map(f32::from).collect()),
            Elements::I64(values) => {
                let exact = |(index, &value): (usize, &i64)| {
                    let number = value as f32;
                    // Compared as i128, because the cast of 2^63 to i64 gives the largest i64.
                    if number as i128 == i128::from(value) {
                        return Ok(number);
                    }
                    let expected = "integers that f32 represents";
                    Err(Error::argument("Array::into_f32", expected, format!("{value} at {index}")))
                };
                values.iter().enumerate().map(exact).collect()
            }
        }
    }

    /// One flag for each element of an array of `bool` or `uint8`: whether it is not 0.
    pub(crate) fn flags(&self) -> std::result::Result<Vec<bool>, String> {
        match &self.elements {
            Elements::Bool(flags) => Ok(flags.clone()),
            Elements::U8(values) => Ok(values.iter().map(|&value| value != 0).collect()),
            other => Err(format!("expected an array of bool or uint8, got {}", other.name())),
        }
    }
}

/// Reads a `.npy` file of `float16`, `float32`, `float64`, `bool`, `uint8` or signed integers, in C's or Fortran's
/// order and of either byte order.
///
/// ```
/// use frazil::interop::npy::{self, Elements};
///
/// let file = std::env::temp_dir().join("frazil-doc.npy");
/// npy::write(&file, &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])?; // numpy.load(file)
/// let array = npy::read(&file)?; // numpy.save(file, array)
/// assert_eq!(array.shape, [2, 3]);
/// assert_eq!(array.elements, Elements::F32(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
/// # std::fs::remove_file(&file).unwrap();
/// # Ok::<(), frazil::Error>(())
/// ```
///
/// # Errors
/// [`Error::Io`]; [`Error::Data`] if it is not such a file, its size is not that of its elements, or a finite
/// `float64` is infinite in `f32`; [`Error::HostMemory`].
pub fn read(path: impl AsRef<Path>) -> Result<Array> {
    let path = path.as_ref();
    let bytes = file::read(path)?;
    if bytes.starts_with(b"PK") {
        let why = "expected a .npy file, got a zip archive, as .npz files are: use read_npz".to_owned();
        return Err(invalid(path, "byte 0".to_owned(), why));
    }
    parse(path, "", &bytes)
}

/// Reads all arrays of a `.npz` file, by name. Needs the feature `npz`.
///
/// # Errors
/// As [`read`], also for entries that are damaged, claim sizes that their data cannot have, or are compressed and
/// larger than 1 GiB.
#[cfg(feature = "npz")]
pub fn read_npz(path: impl AsRef<Path>) -> Result<Vec<(String, Array)>> {
    let path = path.as_ref();
    let archive = zip::Archive::open(path)?;
    let read = |entry: &str| {
        let bytes = archive.read(entry, u64::MAX)?;
        let name = entry.strip_suffix(".npy").unwrap_or(entry).to_owned();
        Ok((name, parse(path, &format!("entry {entry:?}, "), &bytes)?))
    };
    archive.names().map(read).collect()
}

/// Reads the array of a `.npy` file, or the array `name` of a `.npz` file; `None` for a file of another format.
pub(crate) fn read_named(path: &Path, name: &str) -> Result<Option<Array>> {
    let mut head = Vec::new();
    let (opened, _) = file::open(path)?;
    opened.take(6).read_to_end(&mut head).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    if head == MAGIC {
        return read(path).map(Some);
    }
    if !head.starts_with(b"PK\x03\x04") {
        return Ok(None);
    }
    #[cfg(feature = "npz")]
    {
        let entry = format!("{name}.npy");
        let bytes = zip::Archive::open(path)?.read(&entry, u64::MAX)?;
        parse(path, &format!("entry {entry:?}, "), &bytes).map(Some)
    }
    #[cfg(not(feature = "npz"))]
    {
        let why = format!(
            "expected another format for {name:?}: enable the feature `npz` of frazil to read archives"
        );
        Err(invalid(path, "byte 0".to_owned(), why))
    }
}

/// Writes a `.npy` file of `float32`, row-major. The file is replaced atomically.
///
/// # Errors
/// [`Error::ShapeMismatch`] if there are not as many values as the shape has elements; [`Error::Io`].
pub fn write(path: impl AsRef<Path>, shape: &[usize], values: &[f32]) -> Result<()> {
    file::write_atomically(path.as_ref(), &format(shape, values)?)
}

/// Writes a `.npz` file of `float32` arrays, given as name, shape and values, without compression. The file is
/// replaced atomically. Needs the feature `npz`.
///
/// # Errors
/// As [`write()`]; [`Error::InvalidArgument`] if two arrays have the same name; [`Error::Data`] for a name that an
/// archive cannot have.
#[cfg(feature = "npz")]
pub fn write_npz(path: impl AsRef<Path>, arrays: &[(&str, &[usize], &[f32])]) -> Result<()> {
    let arrays = arrays.iter().map(|(name, shape, values)| Ok(((*name).to_owned(), format(shape, values)?)));
    write_entries(path.as_ref(), arrays)
}

/// Writes a `.npz` file of arrays, given as names and the bytes of `.npy` files.
#[cfg(feature = "npz")]
pub(crate) fn write_entries(
    path: &Path,
    arrays: impl Iterator<Item = Result<(String, Vec<u8>)>>,
) -> Result<()> {
    let mut entries = std::collections::BTreeMap::new();
    for array in arrays {
        let (name, bytes) = array?;
        if entries.insert(format!("{name}.npy"), bytes).is_some() {
            return Err(Error::argument("write_npz", "a name for each array", format!("{name:?} twice")));
        }
    }
    zip::write(path, entries.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
}

/// The bytes of a `.npy` file of `float32`.
pub(crate) fn format(shape: &[usize], values: &[f32]) -> Result<Vec<u8>> {
    format_as(shape, "<f4", values, |value| value.to_le_bytes())
}

/// The bytes of a `.npy` file of `bool`.
#[cfg(feature = "npz")]
pub(crate) fn format_flags(shape: &[usize], flags: &[bool]) -> Result<Vec<u8>> {
    format_as(shape, "|b1", flags, |&flag| [u8::from(flag)])
}

fn format_as<T, const N: usize>(
    shape: &[usize],
    element_type: &str,
    values: &[T],
    bytes_of: impl Fn(&T) -> [u8; N],
) -> Result<Vec<u8>> {
    if shape.iter().try_fold(1usize, |all, &extent| all.checked_mul(extent)) != Some(values.len()) {
        let expected = format!("as many values as {shape:?} has elements");
        return Err(Error::shape("npy::write", expected, values.len()));
    }
    // As Python writes tuples: `()`, `(3,)`, `(3, 4)`.
    let mut extents: Vec<_> = shape.iter().map(usize::to_string).collect();
    if shape.len() == 1 {
        extents.push(String::new());
    }
    let extents = extents.join(", ");
    let mut header =
        format!("{{'descr': '{element_type}', 'fortran_order': False, 'shape': ({}), }}", extents.trim_end());
    // Elements begin at a multiple of 64 bytes.
    let begin = (MAGIC.len() + 4 + header.len() + 1).next_multiple_of(64);
    let _ = write!(header, "{:1$}", "", begin - MAGIC.len() - 4 - header.len() - 1);
    header.push('\n');
    let mut bytes = host_memory::reserve(begin.saturating_add(values.len().saturating_mul(N)), "an array")?;
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    let size = u16::try_from(header.len())
        .map_err(|_| Error::shape("npy::write", format!("at most {MAX_AXES} axes"), shape.len()))?;
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(values.iter().flat_map(bytes_of));
    Ok(bytes)
}

/// The fields of a header.
struct Header<'a> {
    element_type: &'a str,
    fortran: bool,
    shape: Vec<usize>,
}

impl<'a> Header<'a> {
    /// Parses the text of a Python dict such as `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
    fn parse(text: &'a str) -> Option<Self> {
        let field = |name: &str| text.split_once(&format!("'{name}':")).map(|(_, rest)| rest.trim_start());
        let element_type = field("descr")?.strip_prefix('\'')?.split_once('\'')?.0;
        let order = field("fortran_order")?;
        let fortran = order.starts_with("True");
        let (extents, _) = field("shape")?.strip_prefix('(')?.split_once(')')?;
        let extents = extents.strip_suffix(',').unwrap_or(extents);
        let shape = match extents.trim() {
            "" => Vec::new(),
            extents => extents.split(',').map(|extent| extent.trim().parse().ok()).collect::<Option<_>>()?,
        };
        let valid = (fortran || order.starts_with("False")) && shape.len() <= MAX_AXES;
        valid.then_some(Header { element_type, fortran, shape })
    }
}

/// Splits the header off a `.npy` file; `place` is that of the bytes in the file.
fn header<'a>(path: &Path, place: &str, bytes: &'a [u8]) -> Result<(Header<'a>, &'a [u8])> {
    let header = |why: &str| wrong_header(path, place, why);
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Err(header("got another: save it with numpy.save"));
    };
    let (size, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        [_, _, _, _, _, _, ..] => return Err(header("version 1, 2 or 3, got another")),
        _ => return Err(header("got a part of a header")),
    };
    if size > MAX_HEADER {
        return Err(header(&format!("with a header of at most {MAX_HEADER} bytes, got {size}")));
    }
    let Some((text, data)) = rest.split_at_checked(size) else {
        return Err(header("got a part of a header"));
    };
    match std::str::from_utf8(text).ok().and_then(Header::parse) {
        Some(parsed) => Ok((parsed, data)),
        None => Err(header("with the fields descr, fortran_order and shape, got others")),
    }
}

fn wrong_header(path: &Path, place: &str, why: &str) -> Error {
    invalid(path, format!("{place}byte 0"), format!("expected an array in NumPy's format, {why}"))
}

/// Returns element type and shape of the array of a `.npy` file, which may have elements that are not read.
pub(crate) fn describe(path: &Path, place: &str, bytes: &[u8]) -> Result<(String, Vec<usize>)> {
    let (Header { element_type, shape, .. }, data) = header(path, place, bytes)?;
    let kind = element_type.trim_start_matches(['<', '>', '|', '=']);
    let bits = |bytes: &str| bytes.parse::<u8>().ok().map(|bytes| u32::from(bytes) * 8);
    let name = match kind.split_at_checked(1) {
        Some(("b", "1")) => Some("bool".to_owned()),
        Some((kind @ ("f" | "i" | "u"), bytes)) => bits(bytes).map(|bits| format!("{kind}{bits}")),
        _ => None,
    };
    if name.is_some() {
        let width = kind[1..].parse().unwrap_or(1);
        check_size(path, &format!("{place}byte {}", bytes.len() - data.len()), &shape, width, data)?;
    }
    Ok((name.unwrap_or_else(|| "other".to_owned()), shape))
}

/// Refuses data that are not the elements of an array.
fn check_size(path: &Path, at: &str, shape: &[usize], width: usize, data: &[u8]) -> Result<()> {
    let elements = shape.iter().try_fold(1usize, |all, &extent| all.checked_mul(extent));
    if elements.and_then(|elements| elements.checked_mul(width)) != Some(data.len()) {
        let why = format!("expected {shape:?} elements of {width} bytes, got {} bytes", data.len());
        return Err(invalid(path, at.to_owned(), why));
    }
    Ok(())
}

/// Parses a `.npy` file; `place` is that of the bytes in the file.
fn parse(path: &Path, place: &str, bytes: &[u8]) -> Result<Array> {
    let at = |byte: usize| format!("{place}byte {byte}");
    let (Header { element_type, fortran, shape }, data) = header(path, place, bytes)?;
    let begin = bytes.len() - data.len();
    let wrong_type = || {
        let types = "float16, float32, float64, bool, uint8 or signed integers";
        wrong_header(path, place, &format!("of {types}, got {element_type:?}: convert it with astype"))
    };
    let (order, kind) = element_type.split_at_checked(1).ok_or_else(wrong_type)?;
    let width = match kind {
        "b1" | "u1" | "i1" => 1,
        "f2" | "i2" => 2,
        "f4" | "i4" => 4,
        "f8" | "i8" => 8,
        _ => return Err(wrong_type()),
    };
    check_size(path, &at(begin), &shape, width, data)?;
    let swapped;
    let data = match order {
        "<" | "|" | "=" => data,
        ">" => {
            let mut copy = host_memory::reserve(data.len(), path.display())?;
            copy.extend(data.chunks_exact(width).flat_map(|element| element.iter().rev()));
            swapped = copy;
            &swapped
        }
        _ => return Err(wrong_type()),
    };
    let float = |float: Float| {
        let values = float.to_f32(data, path.display(), |why| invalid(path, at(begin), why))?;
        row_major(path, &shape, fortran, values).map(Elements::F32)
    };
    let elements = match kind {
        "f2" => float(Float::F16)?,
        "f4" => float(Float::F32)?,
        "f8" => float(Float::F64)?,
        "u1" => Elements::U8(row_major(path, &shape, fortran, copied(path, data, |&byte| byte)?)?),
        "b1" => Elements::Bool(row_major(path, &shape, fortran, copied(path, data, |&byte| byte != 0)?)?),
        _ => {
            let mut values = host_memory::reserve(data.len() / width, path.display())?;
            values.extend(data.chunks_exact(width).map(|element| {
                let sign = if element.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
                let mut wide = [sign; 8];
                wide[..width].copy_from_slice(element);
                i64::from_le_bytes(wide)
            }));
            Elements::I64(row_major(path, &shape, fortran, values)?)
        }
    };
    Ok(Array { shape, elements })
}

fn copied<T>(path: &Path, data: &[u8], convert: impl Fn(&u8) -> T) -> Result<Vec<T>> {
    let mut values = host_memory::reserve(data.len(), path.display())?;
    values.extend(data.iter().map(convert));
    Ok(values)
}

/// Reorders elements in Fortran's order, where the first axis is the innermost.
fn row_major<T: Copy>(path: &Path, shape: &[usize], fortran: bool, values: Vec<T>) -> Result<Vec<T>> {
    if !fortran || shape.len() < 2 {
        return Ok(values);
    }
    let mut ordered = host_memory::reserve(values.len(), path.display())?;
    for index in 0..values.len() {
        let (mut rest, mut stride, mut at) = (index, values.len(), 0);
        for &extent in shape.iter().rev() {
            stride /= extent;
            at += rest % extent * stride;
            rest /= extent;
        }
        ordered.push(values[at]);
    }
    Ok(ordered)
}

fn invalid(path: &Path, place: String, why: String) -> Error {
    Error::Data { path: path.to_owned(), place, why, source: None }
}
