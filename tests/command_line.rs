//! The program itself, run as a user runs it.

use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

fn frazil(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_frazil")).args(arguments).output().unwrap()
}

fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("frazil-cli-{}-{name}", std::process::id()))
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"))).collect()
}

#[test]
fn train_prints_json_lines_and_writes_its_files() {
    let run = |name: &str, seed: &str| {
        let out = folder(name);
        let arguments = ["train", "--epochs", "2", "--json", "--seed", seed, "--out", out.to_str().unwrap()];
        let output = frazil(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (lines(&output), out)
    };
    let (first, out) = run("a", "7");
    assert_eq!(first.len(), 3);
    for (line, epoch) in first[..2].iter().zip(1..) {
        assert_eq!(line["epoch"], epoch);
        for field in ["train_loss", "test_loss", "test_accuracy", "samples_per_s"] {
            assert!(line[field].as_f64().is_some_and(|x| x > 0.0), "{field}: {line}");
        }
    }
    let done = &first[2];
    assert_eq!(
        (&done["done"], &done["frozen_total"], &done["frozen_changed"]),
        (&true.into(), &2376.into(), &0.into())
    );
    assert_eq!(done["steps"], 46);
    assert!(done["trainable_changed"].as_u64().unwrap() > 25_000, "{done}");
    assert!(
        done["adapter"].is_string() && done["software_adapter"].is_boolean() && done["wall_s"].is_number()
    );

    let csv = std::fs::read_to_string(out.join("metrics.csv")).unwrap();
    assert_eq!(csv.lines().count(), 3);
    assert!(csv.starts_with("epoch,train_loss,"));
    let bytes = std::fs::read(out.join("weights.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for name in ["conv1.kernel", "fc2.bias", "mask.conv2.kernel", "state.momentum.fc1.kernel"] {
        assert!(tensors.tensor(name).is_ok(), "{name}");
    }
    assert!(tensors.tensor("mask.fc1.kernel").is_err(), "nothing of it is frozen");

    let (again, second) = run("b", "7");
    let (other, third) = run("c", "8");
    for field in ["digest", "frozen_digest"] {
        assert_eq!(again[2][field], done[field], "same seed, same adapter, same bits");
        assert_ne!(other[2][field], done[field]);
    }
    assert_ne!(done["digest"], done["frozen_digest"]);
    [out, second, third].iter().for_each(|f| std::fs::remove_dir_all(f).unwrap());
}

#[test]
fn flags_reach_the_trainer() {
    let out = folder("flags");
    let flags = [
        "--freeze",
        "conv1.*=all",
        "--freeze",
        "fc1.kernel=random:0.25",
        "--optimizer",
        "adamw",
        "--lr",
        "0.002",
    ];
    let rest = [
        "--weight-decay",
        "0.1",
        "--epochs",
        "1",
        "--batch",
        "128",
        "--json",
        "--out",
        out.to_str().unwrap(),
    ];
    // Without a command it trains.
    let output = frazil(&[&flags[..], &rest[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let done = lines(&output).pop().unwrap();
    assert_eq!((&done["frozen_total"], &done["frozen_changed"]), (&(160 + 8192).into(), &0.into()));
    assert_eq!(done["steps"], 12);
    let bytes = std::fs::read(out.join("weights.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert!(tensors.tensor("state.v.fc1.kernel").is_ok(), "adamw's state");
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn bad_arguments_exit_with_2_and_say_why() {
    let wrong: [(&[&str], &str); 11] = [
        (&["--freeze", "conv*.kernel"], "GLOB=RULE"),
        (&["--freeze", "conv*.kernel=some"], "random:FRACTION"),
        (&["--freeze", "pool*=all"], "pool*"),
        (&["--mask-schedule", "fc*=linear:final=1"], "polynomial:final=F"),
        (&["--mask-schedule", "pool*=constant:fraction=0.5"], "pool*"),
        (&["--optimizer", "adam", "--momentum", "0.9"], "--optimizer sgd"),
        (&["--lr=-1"], "learning rate"),
        (&["--epochs", "0"], "epochs"),
        (&["--batch", "many"], "many"),
        (&["--backend", "glide"], "glide"),
        (&["fly"], "fly"),
    ];
    for (arguments, part) in wrong {
        let output = frazil(arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(part), "{arguments:?}: {message}");
        assert!(!message.contains("panicked"), "{message}");
    }
}

#[test]
fn failures_exit_with_1_and_machines_are_told() {
    let output = frazil(&["train", "--adapter", "no such card", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(lines(&output)[0]["error"].as_str().unwrap().contains("no such card"));
    let out = folder("nan");
    let output = frazil(&["--lr", "1e30", "--epochs", "1", "--out", out.to_str().unwrap()]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("NaN or infinite at step"), "{message}");
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn devices_lists_adapters() {
    let output = frazil(&["devices", "--json"]);
    assert!(output.status.success());
    let all = lines(&output);
    assert!(!all.is_empty());
    for (index, line) in all.iter().enumerate() {
        assert_eq!(line["index"], index);
        assert!(
            line["adapter"].is_string() && line["backend"].is_string() && line["max_binding_bytes"].is_u64()
        );
    }
    let table = String::from_utf8(frazil(&["devices"]).stdout).unwrap();
    assert_eq!(table.lines().count(), all.len() + 1);
}

#[test]
fn check_gives_a_verdict_for_every_kernel() {
    let output = frazil(&["check", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let all = lines(&output);
    let (done, kernels) = all.split_last().unwrap();
    assert_eq!((&done["done"], &done["passed"]), (&true.into(), &true.into()));
    for kernel in ["gemm_register", "im2col", "adam_update", "max_pool2d_grad"] {
        let line = kernels.iter().find(|line| line["kernel"] == kernel).unwrap_or_else(|| panic!("{kernel}"));
        assert!(line["runs"].as_u64() > Some(5) && line["worst_of_bound"].as_f64() <= Some(1.0), "{line}");
    }
}
