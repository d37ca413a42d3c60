//! Helpers that run the program as a process.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the program in a terminal of 100 columns.
pub fn frazil(arguments: &[&str]) -> Output {
    frazil_in(100, arguments)
}

/// Runs the program in a terminal of `columns` columns.
pub fn frazil_in(columns: usize, arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_frazil"));
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

/// The lines of metrics.csv without the last column, the speed.
pub fn rows(out: &Path) -> Vec<String> {
    let csv = std::fs::read_to_string(out.join("metrics.csv")).unwrap();
    csv.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect()
}
