//! Zip archives built byte by byte, so that their directories can lie.

use flate2::{Compression, Crc, write::DeflateEncoder};
use std::io::Write;

/// An entry of an archive, and what the directory says about it.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    /// The bytes in the archive.
    pub bytes: Vec<u8>,
    pub flags: u16,
    /// 0 for none, 8 for deflate.
    pub method: u16,
    pub crc: u32,
    /// Size when unpacked.
    pub size: u32,
    /// Position of the local header, if not that of the entry.
    pub offset: Option<u32>,
}

impl Entry {
    pub fn stored(name: &str, bytes: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(bytes);
        let (name, bytes, size) = (name.to_owned(), bytes.to_vec(), bytes.len() as u32);
        Entry { name, bytes, flags: 0, method: 0, crc: crc.sum(), size, offset: None }
    }

    pub fn deflated(name: &str, bytes: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        Entry { bytes: encoder.finish().unwrap(), method: 8, ..Self::stored(name, bytes) }
    }

    /// The fields that the local header and the directory have in common.
    fn common(&self) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend([20, 0]);
        header.extend(self.flags.to_le_bytes());
        header.extend(self.method.to_le_bytes());
        header.extend([0; 4]);
        header.extend(self.crc.to_le_bytes());
        header.extend((self.bytes.len() as u32).to_le_bytes());
        header.extend(self.size.to_le_bytes());
        header.extend((self.name.len() as u16).to_le_bytes());
        header.extend([0; 2]);
        header
    }
}

/// An archive of these entries.
pub fn archive(entries: &[Entry]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let offset = entry.offset.unwrap_or(file.len() as u32);
        file.extend(b"PK\x03\x04");
        file.extend(entry.common());
        file.extend(entry.name.as_bytes());
        file.extend(&entry.bytes);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(entry.common());
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(entry.name.as_bytes());
    }
    let begin = file.len() as u32;
    let count = (entries.len() as u16).to_le_bytes();
    file.extend(&directory);
    file.extend(b"PK\x05\x06\x00\x00\x00\x00");
    file.extend([count, count].concat());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(begin.to_le_bytes());
    file.extend([0; 2]);
    file
}
