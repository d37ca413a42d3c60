//! Lines on standard output: for people, or one JSON object each.

use frazil::{Error, Result};
use std::io::Write;

/// Standard output, where a closed pipe is an error and not a panic.
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Output { json }
    }

    /// A line for people; nothing in JSON mode.
    pub fn text(&self, line: impl std::fmt::Display) -> Result<()> {
        if self.json { Ok(()) } else { write(&line.to_string()) }
    }

    /// A line for machines; nothing in text mode.
    pub fn json(&self, object: &serde_json::Value) -> Result<()> {
        if self.json { write(&object.to_string()) } else { Ok(()) }
    }
}

fn write(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|source| Error::Io { path: "standard output".into(), source })
}
