//! What several test modules share.

pub mod compare;
pub mod device;
pub mod executor;
pub mod golden;
pub mod gradients;
pub mod onnx;
pub mod portable;
pub mod random;
pub mod training;
pub mod trajectory;
pub mod uniformity;

/// Past the test harness, which shows a passed test's output to nobody.
pub fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
