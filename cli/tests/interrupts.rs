//! Runs whose output is lost, or that are interrupted.

use crate::program::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Starts the program with pipes for both outputs.
fn start(arguments: &[&str]) -> Child {
    let mut program = Command::new(env!("CARGO_BIN_EXE_frazil"));
    program.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Reads lines until one contains `part`.
fn wait_for(lines: &mut impl BufRead, part: &str) {
    let mut line = String::new();
    while !line.contains(part) {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the output ended before {part:?}");
    }
}

#[test]
fn training_goes_on_after_its_reader_has_closed_the_pipe() {
    let out = folder("closed");
    let mut child = start(&["train", "--epochs", "3", "--batch", "256", "--out", out.to_str().unwrap()]);
    // As `head -1` does.
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    wait_for(&mut stdout, "adapter");
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((note(&out, "epoch").unwrap().as_str(), rows(&out).len()), ("3", 4));
    std::fs::remove_dir_all(out).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn training_goes_on_without_space_for_its_output_and_then_fails() {
    let out = folder("full");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_frazil"));
    program.args(["train", "--epochs", "2", "--batch", "256", "--out", out.to_str().unwrap()]);
    let output = program.stdout(full).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for part in ["standard output", "going on without output"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!((note(&out, "epoch").unwrap().as_str(), rows(&out).len()), ("2", 3));
    std::fs::remove_dir_all(out).unwrap();
}

#[cfg(unix)]
mod signals {
    use super::*;
    use serde_json::Value;
    use std::io::Read;
    use std::path::Path;

    fn send(child: &Child, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Starts a run of many epochs, sends a signal once `epoch` is complete, and returns the last line.
    fn interrupt(out: &Path, name: &str, epoch: u64) -> Value {
        let mut child = start(&["train", "--json", "--epochs", "5000", "--out", out.to_str().unwrap()]);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        wait_for(&mut stdout, &format!("\"epoch\":{epoch},"));
        send(&child, name);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{name}: {message}");
        assert!(message.contains("interrupt again to stop at once"), "{message}");
        serde_json::from_str(rest.lines().last().unwrap()).unwrap()
    }

    #[test]
    fn interrupted_run_resumes_as_if_it_had_not_been_interrupted() {
        for name in ["INT", "TERM"] {
            let (out, whole) = (folder(&format!("interrupt-{name}")), folder(&format!("whole-{name}")));
            let last = interrupt(&out, name, 2);
            assert_eq!((&last["kind"], &last["exit_code"]), (&"interrupted".into(), &130.into()));
            let file = out.join("weights.safetensors");
            let command = format!("frazil train --resume {}", file.display());
            assert!(last["error"].as_str().unwrap().contains(&command), "{last}");
            let epoch: u64 = note(&out, "epoch").unwrap().parse().unwrap();
            assert!(epoch >= 2 && note(&out, "batch").unwrap() != "0", "after a step of an epoch");
            let epochs = (epoch + 2).to_string();
            let resumed = train(&out, &["--resume", file.to_str().unwrap(), "--epochs", &epochs]);
            let expected = train(&whole, &["--epochs", &epochs]);
            for field in ["digest", "frozen_digest", "steps", "test_accuracy"] {
                assert_eq!(resumed[field], expected[field], "{name}: {field}");
            }
            // The training loss of the interrupted epoch is a sum of two parts, which is rounded differently.
            let (resumed, expected) = (rows(&out), rows(&whole));
            assert_eq!(resumed.len(), expected.len());
            for (resumed, expected) in resumed.iter().zip(&expected).skip(1) {
                for (a, b) in resumed.split(',').zip(expected.split(',')) {
                    let [a, b] = [a, b].map(|number| number.parse::<f64>().unwrap());
                    assert!((a - b).abs() <= 1e-6 * b.abs(), "{name}: {resumed} {expected}");
                }
            }
            assert_eq!(note(&out, "partial"), None);
            [out, whole].iter().for_each(|f| std::fs::remove_dir_all(f).unwrap());
        }
    }

    #[test]
    fn interrupted_repetition_keeps_the_results() {
        let out = folder("repetition");
        train(&out, &["--epochs", "3"]);
        let metrics = std::fs::read(out.join("metrics.csv")).unwrap();
        interrupt(&out, "INT", 1);
        assert!(note(&out, "epoch").unwrap().parse::<u64>().unwrap() >= 3);
        assert!(std::fs::read(out.join("metrics.csv")).unwrap().starts_with(&metrics));
        std::fs::remove_dir_all(out).unwrap();
    }

    /// The first step takes seconds, because it accumulates 1437 batches. The first interrupt waits for its
    /// end.
    #[test]
    fn second_interrupt_ends_the_program_at_once() {
        let out = folder("twice");
        let flags = ["train", "--batch", "1", "--accumulate", "1437", "--out", out.to_str().unwrap()];
        let mut child = start(&flags);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        wait_for(&mut stdout, "parameters");
        send(&child, "INT");
        wait_for(&mut stderr, "interrupt again to stop at once");
        send(&child, "INT");
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(!out.join("weights.safetensors").exists());
        std::fs::remove_dir_all(out).unwrap();
    }

    /// A command that saves nothing ends at the first interrupt.
    #[test]
    fn interrupted_benchmark_exits_with_130() {
        let mut child = start(&["bench", "--workload", "gemm-64", "--steps", "100000000"]);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        wait_for(&mut stdout, "workload");
        send(&child, "INT");
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"), "{output:?}");
    }
}
