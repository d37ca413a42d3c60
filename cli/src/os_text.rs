//! Arguments with paths that are not UTF-8, as text that flags and checkpoints can store.
//!
//! On Unix a path is bytes. Bytes that are not UTF-8 become characters of a private-use plane, which no name
//! contains in practice, and become the same bytes again where the path is used.

use clap::builder::{OsStringValueParser, TypedValueParser};
use std::ffi::OsStr;
use std::path::PathBuf;

/// The character of byte 0.
const FIRST: u32 = 0x0010_ff00;

/// Parses an argument that may contain a path.
pub fn parser() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().map(|argument| text(&argument))
}

/// Returns an argument as text.
pub fn text(argument: &OsStr) -> String {
    if !cfg!(unix) {
        return argument.to_string_lossy().into_owned();
    }
    let mut text = String::new();
    for chunk in argument.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().filter_map(|&byte| char::from_u32(FIRST + u32::from(byte))));
    }
    text
}

/// Returns the path that is a part of such a text.
pub fn path(text: &str) -> PathBuf {
    #[cfg(unix)]
    {
        let mut bytes = Vec::new();
        for c in text.chars() {
            match u32::from(c).checked_sub(FIRST).map(u8::try_from) {
                Some(Ok(byte)) => bytes.push(byte),
                _ => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        let path: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(bytes);
        path.into()
    }
    #[cfg(not(unix))]
    PathBuf::from(text)
}
