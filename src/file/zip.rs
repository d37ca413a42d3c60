//! Zip archives: reads of single entries with every size checked before memory is reserved, and writes.

use crate::error::{Error, Result, Source};
use crate::host_memory;
use flate2::read::DeflateDecoder;
use rawzip::{CompressionMethod, Crc32, FileReader, ZipArchive, ZipArchiveEntryWayfinder, ZipArchiveWriter};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Maximum size of a compressed entry. A few megabytes of an archive could otherwise become gigabytes.
const MAX_INFLATED: u64 = 1 << 30;

/// Deflate compresses no data to less than a 1032th.
const MAX_DEFLATE_RATIO: u64 = 1032;

/// Size of a local header, which precedes the data of each entry, without its name.
const LOCAL_HEADER: u64 = 30;

/// Size of the pieces in which entries are read.
const PIECE: usize = 1 << 16;

/// A zip archive in a file.
pub(crate) struct Archive {
    path: PathBuf,
    zip: ZipArchive<FileReader>,
    entries: BTreeMap<String, Entry>,
}

/// An entry as the archive's directory describes it. The sizes are plausible: the data is in the file, overlaps no
/// other entry, and can be as large as it claims.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    place: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
    encrypted: bool,
    crc: u32,
    /// Size in bytes when unpacked.
    pub size: u64,
}

impl Archive {
    /// Opens an archive and reads its directory.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] if it is not a zip archive, or entries have equal names, overlap, reach beyond
    /// the file or claim a size that their compressed data cannot have.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, size) = super::open(path)?;
        let damaged = |error: rawzip::Error| {
            let why = format!("expected a complete zip archive, got: {error}");
            invalid(path, "directory of the archive", why, Some(error.into()))
        };
        let mut buffer = vec![0; rawzip::MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let zip = ZipArchive::from_file(file, &mut buffer).map_err(damaged)?;
        let mut entries = BTreeMap::new();
        let mut ranges: Vec<(Range<u64>, String)> = Vec::new();
        let mut directory = zip.entries(&mut buffer);
        while let Some(record) = directory.next_entry().map_err(damaged)? {
            let raw = record.file_path();
            let name = String::from_utf8_lossy(raw.as_ref()).into_owned();
            let refuse = |why| Err(invalid(path, &entry_place(&name), why, None));
            let (compressed, unpacked) = (record.compressed_size_hint(), record.uncompressed_size_hint());
            let method = record.compression_method();
            let most = match method {
                CompressionMethod::STORE => compressed,
                _ => compressed.saturating_add(1).saturating_mul(MAX_DEFLATE_RATIO),
            };
            if unpacked > most || (method == CompressionMethod::STORE && unpacked != compressed) {
                return refuse(format!(
                    "expected at most {most} bytes from {compressed} stored bytes, got {unpacked}: the archive is \
                     damaged"
                ));
            }
            let begin = record.local_header_offset();
            let header = LOCAL_HEADER + raw.as_ref().len() as u64;
            let end = begin.saturating_add(header).saturating_add(compressed);
            if end > size {
                return refuse(format!(
                    "expected data within the {size} bytes of the file, got its end at {end}"
                ));
            }
            ranges.push((begin..end, name.clone()));
            let entry = Entry {
                place: record.wayfinder(),
                method,
                encrypted: record.flags().is_encrypted(),
                crc: record.crc32(),
                size: unpacked,
            };
            if entries.insert(name.clone(), entry).is_some() {
                return refuse("expected one entry of this name, got two".to_owned());
            }
        }
        ranges.sort_by_key(|(range, _)| range.start);
        for pair in ranges.windows(2) {
            let [(first, one), (second, other)] = pair else { continue };
            if first.end > second.start {
                let why = format!("expected data of its own, got data that overlaps the entry {one:?}");
                return Err(invalid(path, &entry_place(other), why, None));
            }
        }
        Ok(Archive { path: path.to_owned(), zip, entries })
    }

    /// Names of the entries, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The entry of this name.
    pub fn entry(&self, name: &str) -> Option<Entry> {
        self.entries.get(name).copied()
    }

    /// Reads an entry of at most `most` bytes.
    ///
    /// # Errors
    /// As [`Archive::read_range`]; [`Error::Data`] if there is no such entry, or it is larger.
    pub fn read(&self, name: &str, most: u64) -> Result<Vec<u8>> {
        let Some(entry) = self.entry(name) else {
            let names: Vec<_> = self.names().take(8).collect();
            let why = format!("expected an entry of this name, got {names:?}");
            return Err(self.invalid(name, why, None));
        };
        if entry.size > most {
            return Err(self.invalid(
                name,
                format!("expected at most {most} bytes, got {}", entry.size),
                None,
            ));
        }
        self.read_range(name, entry, 0..entry.size)
    }

    /// Reads bytes of an entry. The checksum is verified, except for a part of an entry that is not compressed,
    /// where the rest is not read.
    ///
    /// # Errors
    /// [`Error::Data`] if the range is not within the entry, or the entry is damaged, encrypted, compressed by
    /// another method than deflate, or compressed and too large; [`Error::HostMemory`].
    pub fn read_range(&self, name: &str, entry: Entry, range: Range<u64>) -> Result<Vec<u8>> {
        let refuse = |why: String| Err(self.invalid(name, why, None));
        let stored = entry.method == CompressionMethod::STORE;
        if range.start > range.end || range.end > entry.size {
            return refuse(format!("expected the bytes {range:?}, got {} bytes", entry.size));
        }
        if entry.encrypted {
            return refuse("expected data that is not encrypted, got encrypted data".to_owned());
        }
        if !stored && entry.method != CompressionMethod::DEFLATE {
            return refuse(format!("expected no compression or deflate, got {}", entry.method));
        }
        if !stored && entry.size > MAX_INFLATED {
            let size = entry.size;
            return refuse(format!(
                "expected at most {MAX_INFLATED} bytes of compressed data, got {size}; write the archive without \
                 compression"
            ));
        }
        let failed = |error: rawzip::Error| {
            self.invalid(name, format!("expected complete data, got: {error}"), Some(error.into()))
        };
        let local = self.zip.get_entry(entry.place).map_err(failed)?;
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut bytes = host_memory::reserve(length, self.path.display())?;
        if stored && range != (0..entry.size) {
            let (begin, end) = local.compressed_data_range();
            let part = begin.saturating_add(range.start)..begin.saturating_add(range.end).min(end);
            let part = rawzip::RangeReader::new(self.zip.get_ref(), part);
            self.copy(name, part, range.end - range.start, 0..range.end - range.start, &mut bytes)?;
            return Ok(bytes);
        }
        let crc = match stored {
            true => self.copy(name, local.reader(), entry.size, range, &mut bytes)?,
            false => self.copy(name, DeflateDecoder::new(local.reader()), entry.size, range, &mut bytes)?,
        };
        // PyTorch writes 0 if it is told not to compute checksums.
        if crc != entry.crc && entry.crc != 0 {
            return refuse(format!(
                "expected the checksum {:08x}, got {crc:08x}: the archive is damaged",
                entry.crc
            ));
        }
        Ok(bytes)
    }

    /// Reads a stream of `size` bytes piece by piece, appends those of the range, and returns the checksum of all.
    fn copy(
        &self,
        name: &str,
        mut from: impl Read,
        size: u64,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<u32> {
        let mut piece = [0; PIECE];
        let (mut crc, mut position) = (Crc32::new(), 0u64);
        loop {
            let read = from.read(&mut piece).map_err(|error| {
                self.invalid(name, format!("expected complete data, got: {error}"), Some(error.into()))
            })?;
            if position + read as u64 > size || (read == 0 && position < size) {
                let got = if read == 0 { "fewer" } else { "more" };
                return Err(self.invalid(name, format!("expected {size} bytes, got {got}"), None));
            }
            if read == 0 {
                return Ok(crc.checksum());
            }
            crc.update(&piece[..read]);
            let within = |limit: u64| limit.saturating_sub(position).min(read as u64) as usize;
            to.extend_from_slice(piece.get(within(range.start)..within(range.end)).unwrap_or_default());
            position += read as u64;
        }
    }

    fn invalid(&self, name: &str, why: String, source: Option<Source>) -> Error {
        invalid(&self.path, &entry_place(name), why, source)
    }
}

/// Writes an archive of entries that are not compressed. The file is replaced atomically.
///
/// # Errors
/// [`Error::Io`]; [`Error::Data`] if an entry cannot have such a name.
pub(crate) fn write<'a>(path: &Path, entries: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<()> {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    for (name, bytes) in entries {
        let refused = |error: rawzip::Error| {
            invalid(path, &entry_place(name), format!("cannot write it: {error}"), Some(error.into()))
        };
        let (mut entry, config) = archive.new_file(name).start().map_err(refused)?;
        let mut writer = config.wrap(&mut entry);
        writer.write_all(bytes).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let (_, descriptor) = writer.finish().map_err(refused)?;
        entry.finish(descriptor).map_err(refused)?;
    }
    let bytes = archive.finish().map_err(|error| {
        invalid(path, "directory of the archive", format!("cannot write it: {error}"), Some(error.into()))
    })?;
    super::write_atomically(path, &bytes)
}

fn entry_place(name: &str) -> String {
    format!("entry {name:?}")
}

fn invalid(path: &Path, place: &str, why: String, source: Option<Source>) -> Error {
    Error::Data { path: path.to_owned(), place: place.to_owned(), why, source }
}
