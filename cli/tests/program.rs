//! Helpers that run the program as a process.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_frazil");

/// Prints a line directly to standard error: the test harness would capture the output of `eprintln!` in a
/// test that passes.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Reports on standard error that a test, or a part of one, does not run on this machine. The line is
/// numbered, so that the last such line of a run gives the total.
pub fn skip(what: &str, why: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let number = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    say(&format!("SKIPPED {number}: {what}: {why}"));
}

/// How long a loop of random cases runs: `FRAZIL_SOAK_SECONDS` if set, else a few seconds.
pub fn soak_time(seconds: u64) -> Duration {
    let set = std::env::var("FRAZIL_SOAK_SECONDS").ok();
    Duration::from_secs(set.map_or(seconds, |text| text.parse().expect("FRAZIL_SOAK_SECONDS: a number")))
}

/// The seed of a loop of random cases: `FRAZIL_SOAK_SEED` if set, else 1.
pub fn soak_seed() -> u64 {
    let set = std::env::var("FRAZIL_SOAK_SEED").ok();
    set.map_or(1, |text| text.parse().expect("FRAZIL_SOAK_SEED: a number"))
}

/// Runs the program in a terminal of 100 columns.
pub fn frazil(arguments: &[&str]) -> Output {
    frazil_in(100, arguments)
}

/// Runs the program in a terminal of `columns` columns.
pub fn frazil_in(columns: usize, arguments: &[&str]) -> Output {
    let mut program = Command::new(PROGRAM);
    program.args(arguments).env("COLUMNS", columns.to_string()).output().unwrap()
}

/// The path of a temporary folder for one test; the folder is not created.
pub fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("frazil-cli-{}-{name}", std::process::id()))
}

/// The JSON objects on standard output.
pub fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"))).collect()
}

/// Runs `frazil train --json` on the digits with `flags` and returns the last line, the summary.
pub fn train(out: &Path, flags: &[&str]) -> Value {
    let output = frazil(&[&["train", "--json", "--out", out.to_str().unwrap()], flags].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lines(&output).pop().unwrap()
}

/// The lines of metrics.csv without the last two columns, the speed and the run.
pub fn rows(out: &Path) -> Vec<String> {
    let csv = std::fs::read_to_string(out.join("metrics.csv")).unwrap();
    csv.lines().map(|line| line.rsplitn(3, ',').nth(2).unwrap().to_owned()).collect()
}

/// Writes a data set of the MNIST family, of 12 training and 4 test images whose pixels depend on `factor`.
pub fn write_idx(folder: &Path, factor: u32) {
    std::fs::create_dir_all(folder).unwrap();
    let file = |count: u32, size: &[u32], values: &dyn Fn(u32) -> u8| {
        let extents = [&[count], size].concat();
        let all = extents.iter().product::<u32>();
        let mut bytes = vec![0, 0, 8, extents.len() as u8];
        extents.iter().for_each(|extent| bytes.extend(extent.to_be_bytes()));
        bytes.extend((0..all).map(values));
        bytes
    };
    for (part, count) in [("train", 12), ("t10k", 4)] {
        let images = file(count, &[28, 28], &|i| (i * factor) as u8);
        std::fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        let labels = file(count, &[], &|i| i as u8 % 10);
        std::fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
}

/// A note of `frazil train` in the checkpoint of an output folder.
pub fn note(out: &Path, name: &str) -> Option<String> {
    let checkpoint = frazil::checkpoint::Checkpoint::read(&out.join("weights.safetensors")).unwrap();
    checkpoint.notes().get(&format!("note.{name}")).cloned()
}
