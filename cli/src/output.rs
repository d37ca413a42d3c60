//! Lines on standard output (text, or one JSON object a line) and messages on standard error.

use frazil::{Error, Result};
use std::cell::RefCell;
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of this process among those that train together. Only the first one prints; the others print why they
/// fail.
static RANK: AtomicUsize = AtomicUsize::new(0);

pub fn set_rank(rank: usize) {
    RANK.store(rank, Ordering::Relaxed);
    if rank > 0 {
        log::set_max_level(log::LevelFilter::Error);
    }
}

fn rank() -> usize {
    RANK.load(Ordering::Relaxed)
}

/// Standard output in text or JSON mode. A closed pipe is an error, not a panic as with `println!`.
pub struct Output {
    json: bool,
    /// Whether an error is kept in `lost` instead of returned.
    tolerant: bool,
    lost: RefCell<Option<Error>>,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Output { json, tolerant: false, lost: RefCell::new(None) }
    }

    /// Creates an output for work that goes on without it: after an error, nothing more is printed.
    pub fn tolerant(json: bool) -> Self {
        Output { tolerant: true, ..Self::new(json) }
    }

    /// Prints a line of text; no output in JSON mode.
    pub fn text(&self, line: impl Display) -> Result<()> {
        if self.json { Ok(()) } else { self.write(&line.to_string()) }
    }

    /// Prints a JSON object as one line; no output in text mode.
    pub fn json(&self, object: &serde_json::Value) -> Result<()> {
        if self.json { self.write(&object.to_string()) } else { Ok(()) }
    }

    /// Returns the error that ended a tolerant output, unless its reader closed the pipe, as `head` does.
    pub fn finish(&self) -> Result<()> {
        match self.lost.take() {
            Some(error) if !is_closed_pipe(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn write(&self, line: &str) -> Result<()> {
        if rank() > 0 || self.lost.borrow().is_some() {
            return Ok(());
        }
        let mut stdout = std::io::stdout().lock();
        // In one piece, so that a program that is killed leaves whole lines.
        let written = stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush());
        let result = written.map_err(|source| Error::Io { path: "standard output".into(), source });
        match result {
            Err(error) if self.tolerant => {
                if !is_closed_pipe(&error) {
                    message(format_args!("frazil: {error}; going on without output"));
                }
                self.lost.replace(Some(error));
                Ok(())
            }
            other => other,
        }
    }
}

/// Whether the reader of standard output has closed the pipe.
pub fn is_closed_pipe(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::BrokenPipe)
}

/// Prints a message on standard error. Errors are ignored: there is nowhere to report them.
pub fn message(text: impl Display) {
    if rank() == 0 {
        print(text);
    }
}

/// Prints why the program fails.
pub fn failure(text: impl Display) {
    match rank() {
        0 => print(format_args!("frazil: {text}")),
        rank => print(format_args!("frazil: rank {rank}: {text}")),
    }
}

fn print(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{}", wrapped(text));
}

/// Wraps a message between words at the width of the terminal on standard error; unchanged without a terminal.
pub fn wrapped(text: impl Display) -> String {
    let text = text.to_string();
    match terminal_size::terminal_size_of(std::io::stderr()) {
        Some((width, _)) => wrap(&text, width.0.into()),
        None => text,
    }
}

/// Breaks lines longer than `width` characters between words.
fn wrap(text: &str, width: usize) -> String {
    let mut wrapped = String::new();
    let mut column = 0;
    for (number, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if number > 0 {
            let breaks = column + 1 + length > width;
            wrapped.push(if breaks { '\n' } else { ' ' });
            column = if breaks { 0 } else { column + 1 };
        }
        wrapped.push_str(word);
        column += length;
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn lines_break_between_words() {
        let text = "warning: llvmpipe (LLVM 15.0.6, 256 bits) is a software adapter: correct, but slow";
        for width in 10..100 {
            let wrapped = wrap(text, width);
            assert_eq!(wrapped.replace('\n', " "), text);
            assert!(wrapped.lines().all(|line| line.chars().count() <= width), "{width}: {wrapped}");
        }
        assert_eq!(wrap(text, 80).lines().count(), 2);
        assert_eq!(wrap("a longer-than-five b", 5), "a\nlonger-than-five\nb");
        assert_eq!(wrap("", 5), "");
    }
}
