//! Lines on standard output: text, or one JSON object a line.

use frazil::{Error, Result};
use std::io::Write;

/// Standard output in text or JSON mode. A closed pipe is an error, not a panic as with `println!`.
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Output { json }
    }

    /// Prints a line of text; no output in JSON mode.
    pub fn text(&self, line: impl std::fmt::Display) -> Result<()> {
        if self.json { Ok(()) } else { write(&line.to_string()) }
    }

    /// Prints a JSON object as one line; no output in text mode.
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
