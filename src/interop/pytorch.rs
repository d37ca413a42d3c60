//! Files of `torch.save`: zip archives with a pickle and one entry for each storage, and the format before
//! PyTorch 1.6, a sequence of pickles followed by the storages.

use super::pickle::{Pickle, Refused, Tensor, Value};
use super::weights::Stored;
use crate::error::{Error, Result};
use crate::file::zip::Archive;
use crate::{file, host_memory};
use safetensors::tensor::Dtype;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Maximum size of a pickle. That of a large model has about a megabyte.
const MAX_PICKLE: u64 = 1 << 25;

/// Names under which training checkpoints keep the state dict, the likeliest first.
const NESTED: [&str; 5] = ["state_dict", "model_state_dict", "model_state", "model", "net"];

/// The tensors of a file of `torch.save`. Their elements are read one tensor at a time.
pub(super) struct TorchFile {
    path: PathBuf,
    content: Content,
    views: BTreeMap<String, View>,
}

enum Content {
    Archive(Archive),
    File(File),
}

/// A tensor: a view on a storage.
struct View {
    storage: Place,
    offset: usize,
    strides: Vec<usize>,
    span: usize,
}

/// Where the elements of a storage are.
#[derive(Clone)]
enum Place {
    Entry(String),
    Bytes(u64),
}

/// Tensors by name, as the pickle describes them.
type Described<'p> = BTreeMap<&'p str, &'p Tensor<'p>>;

impl TorchFile {
    /// Opens a zip archive.
    pub fn open_archive(path: &Path) -> Result<(Self, BTreeMap<String, Stored>)> {
        let archive = Archive::open(path)?;
        let folder =
            archive.names().find_map(|name| name.strip_suffix("/data.pkl").filter(|f| !f.contains('/')));
        let Some(folder) = folder.map(str::to_owned) else {
            let names: Vec<_> = archive.names().take(8).collect();
            let why = format!("expected the entry \"NAME/data.pkl\" of torch.save, got {names:?}");
            return Err(invalid(path, "archive", why));
        };
        let order = format!("{folder}/byteorder");
        if archive.entry(&order).is_some() && archive.read(&order, 16)? != b"little" {
            return Err(invalid(path, &order, "expected \"little\", got another byte order".to_owned()));
        }
        let pickle = format!("{folder}/data.pkl");
        let bytes = archive.read(&pickle, MAX_PICKLE)?;
        let pickle_error = |refused: Refused| refused_at(path, &format!("entry {pickle:?}, "), 0, refused);
        let read = Pickle::read(&bytes).map_err(pickle_error)?;
        let described = state_dict(path, &read)?;
        let mut places = BTreeMap::new();
        for (name, tensor) in &described {
            let storage = tensor.storage;
            let entry = format!("{folder}/data/{}", storage.key);
            let needed = bytes_of(storage.dtype, storage.elements);
            match archive.entry(&entry) {
                Some(found) if found.size >= needed => {}
                found => {
                    let got =
                        found.map_or("no such entry".to_owned(), |entry| format!("{} bytes", entry.size));
                    let why = format!("expected {needed} bytes for the storage of {name:?}, got {got}");
                    return Err(invalid(path, &format!("entry {entry:?}"), why));
                }
            }
            places.insert(storage.key, Place::Entry(entry));
        }
        let (views, stored) = views(described, &places);
        Ok((TorchFile { path: path.to_owned(), content: Content::Archive(archive), views }, stored))
    }

    /// Opens a file in the format before PyTorch 1.6.
    pub fn open_old(path: &Path) -> Result<(Self, BTreeMap<String, Stored>)> {
        let (mut file, size) = file::open(path)?;
        let io = |source| Error::Io { path: path.to_owned(), source };
        let length = size.min(MAX_PICKLE);
        let mut head = host_memory::reserve(length as usize, path.display())?;
        (&mut file).take(length).read_to_end(&mut head).map_err(io)?;
        let mut position = 0;
        let mut next = || {
            let bytes = head.get(position..).unwrap_or_default();
            let read = Pickle::read(bytes).map_err(|refused| refused_at(path, "", position, refused))?;
            position += read.bytes;
            Ok((read, position))
        };
        // The magic number, the version and the system.
        let (_, version, (system, _)) = (next()?, next()?, next()?);
        if !matches!(version.0.value(version.0.root), Value::Integer(1001)) {
            return Err(invalid(path, "version", "expected 1001, got another".to_owned()));
        }
        if !is_little_endian(&system) {
            return Err(invalid(path, "byte order", "expected little-endian numbers, got others".to_owned()));
        }
        let (read, _) = next()?;
        let (keys, mut data) = {
            let (keys, end) = next()?;
            (keys, end as u64)
        };
        let described = state_dict(path, &read)?;
        let storages = read.values.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some((storage.key, *storage)),
            _ => None,
        });
        let storages: BTreeMap<_, _> = storages.collect();
        let Value::List(keys_in_order) = keys.value(keys.root) else {
            return Err(invalid(path, "storages", "expected a list of keys, got another value".to_owned()));
        };
        let mut places = BTreeMap::new();
        for &key in keys_in_order {
            let storage = match keys.value(key) {
                Value::Text(key) => storages.get(key),
                _ => None,
            };
            let Some(storage) = storage else {
                let why = "expected the key of a storage of the state dict, got another value".to_owned();
                return Err(invalid(path, "storages", why));
            };
            // The number of elements, then the elements.
            let mut count = [0; 8];
            file.seek(SeekFrom::Start(data)).and_then(|_| file.read_exact(&mut count)).map_err(io)?;
            let (expected, got) = (storage.elements as u64, u64::from_le_bytes(count));
            let begin = data + 8;
            data = begin.saturating_add(bytes_of(storage.dtype, storage.elements));
            if got != expected || data > size {
                let why = format!(
                    "expected {expected} elements, up to byte {data}, got {got} elements in a file of {size} bytes"
                );
                return Err(invalid(path, &format!("storage {:?}", storage.key), why));
            }
            places.insert(storage.key, Place::Bytes(begin));
        }
        if let Some((name, tensor)) =
            described.iter().find(|(_, tensor)| !places.contains_key(tensor.storage.key))
        {
            let why = format!("expected the storage {:?} in the file, got none", tensor.storage.key);
            return Err(invalid(path, &format!("tensor {name:?}"), why));
        }
        let (views, stored) = views(described, &places);
        Ok((TorchFile { path: path.to_owned(), content: Content::File(file), views }, stored))
    }

    /// Reads the elements of a tensor, row-major.
    pub fn read(&self, name: &str, stored: &Stored) -> Result<Vec<u8>> {
        let Some(view) = self.views.get(name) else { return Ok(Vec::new()) };
        let element = stored.dtype.bitsize() / 8;
        let bytes = |elements: usize| bytes_of(stored.dtype, elements);
        let range = bytes(view.offset)..bytes(view.offset.saturating_add(view.span));
        let data = match (&self.content, &view.storage) {
            (Content::Archive(archive), Place::Entry(entry)) => match archive.entry(entry) {
                Some(found) => archive.read_range(entry, found, range)?,
                None => Vec::new(),
            },
            (Content::File(file), Place::Bytes(begin)) => read_bytes(&self.path, file, *begin, range)?,
            _ => Vec::new(),
        };
        if view.is_row_major(&stored.shape) {
            return Ok(data);
        }
        let elements = stored.shape.iter().product::<usize>();
        let mut gathered = host_memory::reserve(elements.saturating_mul(element), self.path.display())?;
        for index in 0..elements {
            let mut rest = index;
            let axes = stored.shape.iter().zip(&view.strides).rev();
            let at = axes.fold(0, |at, (&extent, &stride)| {
                let coordinate = rest % extent;
                rest /= extent;
                at + coordinate * stride
            });
            gathered.extend_from_slice(data.get(at * element..(at + 1) * element).unwrap_or_default());
        }
        Ok(gathered)
    }
}

impl View {
    fn is_row_major(&self, shape: &[usize]) -> bool {
        let mut expected = 1usize;
        shape.iter().zip(&self.strides).rev().all(|(&extent, &stride)| {
            let fits = extent == 1 || stride == expected;
            expected = expected.saturating_mul(extent);
            fits
        })
    }
}

fn read_bytes(path: &Path, mut file: &File, begin: u64, range: Range<u64>) -> Result<Vec<u8>> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let length = range.end - range.start;
    let mut bytes = host_memory::reserve(usize::try_from(length).unwrap_or(usize::MAX), path.display())?;
    file.seek(SeekFrom::Start(begin.saturating_add(range.start))).map_err(io)?;
    file.take(length).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 == length {
        return Ok(bytes);
    }
    Err(invalid(path, &format!("byte {begin}"), format!("expected {length} bytes, got {}", bytes.len())))
}

fn bytes_of(dtype: Dtype, elements: usize) -> u64 {
    (elements as u64).saturating_mul(dtype.bitsize() as u64 / 8)
}

fn is_little_endian(system: &Pickle) -> bool {
    let Value::Dict(items) = system.value(system.root) else { return false };
    items.iter().any(|&(key, value)| {
        matches!((system.value(key), system.value(value)), (Value::Text("little_endian"), Value::Bool(true)))
    })
}

/// The tensors of the state dict in a pickle: the pickled dict, or one in it.
fn state_dict<'p>(path: &Path, pickle: &'p Pickle<'p>) -> Result<Described<'p>> {
    let Value::Dict(items) = pickle.value(pickle.root) else {
        let why =
            "expected a dict, got another value; save the weights with torch.save(net.state_dict(), FILE)";
        return Err(invalid(path, "pickle", why.to_owned()));
    };
    let own = tensors_in(pickle, items);
    let mut nested = BTreeMap::new();
    for &(key, value) in items {
        if let (Value::Text(key), Value::Dict(items)) = (pickle.value(key), pickle.value(value)) {
            let tensors = tensors_in(pickle, items);
            if !tensors.is_empty() {
                nested.insert(*key, tensors);
            }
        }
    }
    if let Some(found) = NESTED.iter().find_map(|name| nested.remove(name)) {
        return Ok(found);
    }
    if !own.is_empty() {
        return Ok(own);
    }
    let names: Vec<_> = nested.keys().copied().collect();
    match (nested.pop_first(), nested.is_empty()) {
        (Some((_, found)), true) => Ok(found),
        _ => {
            let why = format!(
                "expected tensors in the dict, or in one dict inside it, got tensors inside {names:?}; save the \
                 weights with torch.save(net.state_dict(), FILE)"
            );
            Err(invalid(path, "pickle", why))
        }
    }
}

fn tensors_in<'p>(pickle: &'p Pickle<'p>, items: &[(u32, u32)]) -> Described<'p> {
    let tensors = items.iter().filter_map(|&(key, value)| match (pickle.value(key), pickle.value(value)) {
        (Value::Text(name), Value::Tensor(tensor)) => Some((*name, tensor)),
        _ => None,
    });
    tensors.collect()
}

fn views(
    described: Described,
    places: &BTreeMap<&str, Place>,
) -> (BTreeMap<String, View>, BTreeMap<String, Stored>) {
    let (mut views, mut stored) = (BTreeMap::new(), BTreeMap::new());
    for (name, tensor) in described {
        let Some(storage) = places.get(tensor.storage.key).cloned() else { continue };
        let view =
            View { storage, offset: tensor.offset, strides: tensor.strides.clone(), span: tensor.span() };
        views.insert(name.to_owned(), view);
        stored.insert(name.to_owned(), Stored { dtype: tensor.storage.dtype, shape: tensor.shape.clone() });
    }
    (views, stored)
}

fn refused_at(path: &Path, place: &str, begin: usize, Refused { byte, why }: Refused) -> Error {
    invalid(path, &format!("{place}byte {}", begin + byte), why)
}

fn invalid(path: &Path, place: &str, why: String) -> Error {
    Error::Data { path: path.to_owned(), place: place.to_owned(), why, source: None }
}
