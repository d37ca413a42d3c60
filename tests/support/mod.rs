//! Helpers shared by the test modules.

pub mod compare;
pub mod device;
pub mod executor;
pub mod golden;
pub mod gradients;
pub mod onnx;
pub mod portable;
pub mod random;
pub mod soak;
pub mod training;
pub mod trajectory;
pub mod uniformity;
#[cfg(feature = "npz")]
pub mod zip;

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Prints a line directly to standard error: the test harness would capture the output of `eprintln!` in a
/// test that passes.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Reports on standard error that a test, or a part of one, does not run on this machine.
///
/// The line is numbered, so that the last such line of a run gives the total.
pub fn skip(what: &str, why: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let number = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    say(&format!("SKIPPED {number}: {what}: {why}"));
}
