//! Runs of `frazil train` in one folder: resuming, repeating, locking, moved data.

use crate::program::*;
use std::path::Path;
use std::process::Command;

#[test]
fn resumed_run_is_identical_to_an_uninterrupted_run() {
    let (uninterrupted, resumed) = (folder("uninterrupted"), folder("resumed"));
    let flags = ["--optimizer", "adamw", "--freeze", "*.kernel=random:0.5", "--seed", "5", "--batch", "128"];
    let expected = train(&uninterrupted, &[&flags[..], &["--epochs", "3"]].concat());
    train(&resumed, &[&flags[..], &["--epochs", "1"]].concat());
    let file = resumed.join("weights.safetensors");
    // Appends rows of later epochs to metrics.csv, the last one incomplete. A run that is killed before it
    // writes its checkpoint leaves such rows, and a resumed run must remove them.
    let csv = resumed.join("metrics.csv");
    let text = std::fs::read_to_string(&csv).unwrap();
    std::fs::write(&csv, format!("{text}2,0,0,0,0,0\n3,0.")).unwrap();
    let got = train(&resumed, &["--resume", file.to_str().unwrap(), "--epochs", "3"]);
    for field in ["digest", "frozen_digest", "steps", "trainable_changed", "test_accuracy"] {
        assert_eq!(got[field], expected[field], "{field}");
    }
    assert_eq!(rows(&resumed), rows(&uninterrupted));
    assert_eq!(rows(&uninterrupted).len(), 4);
    // The checkpoints are identical, including the stored flags.
    let bytes = |out: &Path| std::fs::read(out.join("weights.safetensors")).unwrap();
    let end = [bytes(&uninterrupted), bytes(&resumed)].map(|bytes| {
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        header.metadata().clone().unwrap()["frazil"].clone()
    });
    assert!(end[0].contains("note.epoch = 3\n") && end[0].contains("note.batch = 0\n"), "{}", end[0]);
    assert!(bytes(&uninterrupted) == bytes(&resumed), "{}\n{}", end[0], end[1]);

    // By default a resumed run writes to the folder of its checkpoint.
    let output = frazil(&["train", "--resume", file.to_str().unwrap(), "--epochs", "4"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(rows(&resumed).len(), 5);
    [uninterrupted, resumed].iter().for_each(|f| std::fs::remove_dir_all(f).unwrap());
}

#[test]
fn killed_run_leaves_a_checkpoint_to_resume_from() {
    let (uninterrupted, killed) = (folder("not-killed"), folder("killed"));
    let flags = ["--freeze", "conv*=random:0.5", "--save-every", "1", "--batch", "256"];
    let file = killed.join("weights.safetensors");
    let mut child = Command::new(env!("CARGO_BIN_EXE_frazil"))
        .args([&["train", "--epochs", "500", "--out", killed.to_str().unwrap()], &flags[..]].concat())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    while !file.exists() || std::fs::read_to_string(killed.join("metrics.csv")).unwrap().lines().count() < 4 {
        assert!(begun.elapsed().as_secs() < 120 && child.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(7));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let done: usize = {
        let read = frazil::checkpoint::Checkpoint::read(&file).unwrap();
        read.notes()["note.epoch"].parse().unwrap()
    };
    let epochs = (done + 1).to_string();
    let got = train(&killed, &["--resume", file.to_str().unwrap(), "--epochs", &epochs]);
    let expected = train(&uninterrupted, &[&flags[..], &["--epochs", &epochs]].concat());
    assert_eq!((&got["digest"], &got["steps"]), (&expected["digest"], &expected["steps"]));
    assert_eq!(rows(&killed), rows(&uninterrupted));
    [uninterrupted, killed].iter().for_each(|f| std::fs::remove_dir_all(f).unwrap());
}

#[test]
fn flags_that_differ_from_the_checkpoint_are_reported_with_both_values() {
    let out = folder("contradict");
    train(&out, &["--epochs", "1", "--optimizer", "adam", "--lr", "0.002", "--batch", "512"]);
    let file = out.join("weights.safetensors");
    let before = std::fs::read(&file).unwrap();
    let wrong: [(&[&str], &[&str]); 12] = [
        (&["--optimizer", "sgd"], &["--optimizer", "adam", "sgd"]),
        (&["--lr", "0.1"], &["--lr", "0.002", "0.1", "--override"]),
        (&["--weight-decay", "0.1"], &["--weight-decay", "expected 0,", "0.1", "--override"]),
        (&["--nesterov"], &["--nesterov", "the flag to be absent"]),
        (&["--seed", "2"], &["--seed", "1,", "2"]),
        (&["--batch", "64"], &["--batch", "512", "64"]),
        (&["--freeze", "*=all"], &["--freeze", "conv*.kernel=random:0.5", "*=all"]),
        (&["--model", "cifar"], &["--model", "expected digits,", "cifar", "start a new run"]),
        (&["--data", "idx:here"], &["--data", "digits", "idx:here"]),
        (&["--epochs", "1"], &["--epochs", "more than the 1", "got 1"]),
        (&[], &["--epochs", "more than the 1"]),
        (&["--epochs", "2", "--save-every", "0"], &["--save-every"]),
    ];
    for (flags, parts) in wrong {
        let resume = ["train", "--resume", file.to_str().unwrap()];
        let output = frazil(&[&resume[..], flags].concat());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{flags:?}: {message}");
    }
    assert!(std::fs::read(&file).unwrap() == before);
    // Values that are equal to the stored ones, and to defaults that are not stored.
    let equal = ["--lr", "2e-3", "--optimizer", "adam", "--weight-decay", "0", "--model", "digits"];
    let more = ["--schedule", "constant:floor=0", "--freeze", "conv*.kernel=random:0.50", "--data", "digits"];
    train(&out, &[&["--resume", file.to_str().unwrap(), "--epochs", "2"], &equal[..], &more].concat());
    assert_eq!(note(&out, "overrides"), None);
    // A checkpoint without the notes that `frazil train` writes.
    let mut bare = frazil::checkpoint::Checkpoint::default();
    bare.note("step", 1);
    bare.write(&file).unwrap();
    let output = frazil(&["train", "--resume", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("note arguments"));
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn folder_of_a_run_is_locked_while_it_is_written() {
    let out = folder("locked");
    std::fs::create_dir_all(&out).unwrap();
    let lock = std::fs::File::create(out.join(".lock")).unwrap();
    lock.try_lock().unwrap();
    let path = out.to_str().unwrap();
    let output = frazil(&["train", "--epochs", "1", "--out", path]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains("no other run writes to"), "{output:?}");
    assert!(!out.join("metrics.csv").exists() && !out.join("weights.safetensors").exists());
    drop(lock);
    assert!(frazil(&["train", "--epochs", "1", "--out", path]).status.success());
    std::fs::remove_dir_all(&out).unwrap();
}

fn weights(out: &Path) -> String {
    out.join("weights.safetensors").to_str().unwrap().to_owned()
}

#[test]
fn override_replaces_rates_and_is_recorded() {
    let (out, other) = (folder("override"), folder("override-once"));
    let begin = ["--epochs", "1", "--batch", "256"];
    for out in [&out, &other] {
        train(out, &begin);
    }
    let file = weights(&out);
    let resume = |epochs: &str, more: &[&str]| {
        frazil(&[&["train", "--json", "--resume", &file, "--epochs", epochs], more].concat())
    };
    let output = resume("2", &["--lr", "0.01"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    for part in ["--lr: expected 0.05", "got 0.01", "--override"] {
        assert!(message.contains(part), "{message}");
    }
    let flags = ["--override", "--lr", "0.01", "--weight-decay", "0.001", "--schedule", "cosine:total=90"];
    assert!(resume("2", &flags).status.success());
    let recorded = note(&out, "overrides").unwrap();
    for part in
        ["after epoch 1, batch 0: --lr 0.05 -> 0.01", "--weight-decay 0 -> 0.001", "constant -> cosine"]
    {
        assert!(recorded.contains(part), "{recorded}");
    }
    assert!(note(&out, "arguments").unwrap().contains("--lr=0.01"));
    assert_eq!(note(&out, "run"), note(&other, "run"), "the run is the same");
    // The new values hold for later resumes, too; repeating them and the default momentum is no override.
    let twice = lines(&resume("3", &["--override", "--lr", "0.01", "--momentum", "0.9"])).pop().unwrap();
    let once = ["--resume", &weights(&other), "--epochs", "3"];
    let once = train(&other, &[&once[..], &flags].concat());
    assert_eq!(twice["digest"], once["digest"]);
    assert_eq!(note(&out, "overrides").unwrap(), recorded);
    let pruned = resume("4", &["--override", "--mask-schedule", "fc1.kernel=constant:fraction=0.5"]);
    assert_eq!(lines(&pruned).pop().unwrap()["frozen_total"], 2376 + 16384);
    // Other flags cannot be overridden.
    assert_eq!(resume("5", &["--override", "--batch", "64"]).status.code(), Some(2));
    [out, other].iter().for_each(|f| std::fs::remove_dir_all(f).unwrap());
}

#[test]
fn data_are_recognized_by_content() {
    let out = folder("data");
    let run = out.join("run");
    write_idx(&out.join("old"), 7);
    write_idx(&out.join("different"), 5);
    // A relative path.
    let mut program = Command::new(env!("CARGO_BIN_EXE_frazil"));
    let flags = ["--batch", "4", "--freeze", "conv1.kernel=random:0.5"];
    program.current_dir(&out).args(["train", "--data", "idx:old", "--epochs", "1", "--out", "run"]);
    let output = program.args(flags).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(out.join("old"), out.join("new")).unwrap();
    let file = weights(&run);
    let refused = |epochs: &str, flags: &[&str], code: i32, part: &str| {
        let output = frazil(&[&["train", "--resume", &file, "--epochs", epochs], flags].concat());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{message}");
        assert!(message.contains("give their place with --data") && message.contains(part), "{message}");
    };
    let different = format!("idx:{}", out.join("different").display());
    let moved = format!("idx:{}", out.join("new").display());
    refused("2", &[], 1, "idx:old");
    refused("2", &["--data", &different], 2, "digest");
    let resumed = train(&run, &["--resume", &file, "--epochs", "2", "--data", &moved]);
    let whole = out.join("whole");
    let expected = train(&whole, &[&["--data", &moved, "--epochs", "2"], &flags[..]].concat());
    assert_eq!(resumed["digest"], expected["digest"]);
    assert_eq!(note(&run, "run"), note(&whole, "run"), "the place is not part of the identity");
    // The new place is stored; other contents in that place are noticed.
    assert!(note(&run, "arguments").unwrap().contains("new"));
    write_idx(&out.join("new"), 5);
    refused("3", &[], 2, "digest");
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn results_of_another_run_are_replaced_on_request_only() {
    let (out, other) = (folder("replaced"), folder("replacing"));
    let (path, flags) = (out.to_str().unwrap(), ["--batch", "256", "--epochs", "2"]);
    train(&out, &flags);
    let files = || ["weights.safetensors", "metrics.csv"].map(|name| std::fs::read(out.join(name)).unwrap());
    let before = files();
    for more in
        [&["--epochs", "2", "--batch", "256", "--seed", "2"][..], &["--epochs", "1", "--batch", "256"]]
    {
        let output = frazil(&[&["train", "--out", path], more].concat());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {message}");
        for part in ["--out", "--overwrite", "--resume"] {
            assert!(message.contains(part), "{more:?}: {message}");
        }
        assert!(files() == before, "{more:?}");
    }
    // The same run again has the same results.
    train(&out, &flags);
    assert!(files() == before);
    // It may go further.
    train(&out, &["--batch", "256", "--epochs", "3", "--lr", "0.05"]);
    assert_eq!((note(&out, "epoch").unwrap().as_str(), rows(&out).len()), ("3", 4));

    train(&other, &[&flags[..], &["--seed", "2"]].concat());
    let before = files();
    let file = weights(&other);
    let output = frazil(&["train", "--resume", &file, "--epochs", "3", "--out", path]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && message.contains("--overwrite"), "{message}");
    assert!(files() == before);
    // The weights of one run with the metrics of another.
    std::fs::copy(out.join("metrics.csv"), other.join("metrics.csv")).unwrap();
    let output = frazil(&["train", "--resume", &file, "--epochs", "3"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for part in [note(&out, "run").unwrap(), note(&other, "run").unwrap(), "--overwrite".to_owned()] {
        assert!(message.contains(&part), "{message}");
    }
    train(&other, &["--resume", &file, "--epochs", "3", "--overwrite"]);
    assert_eq!(rows(&other).len(), 2, "only the row of the third epoch is of this run");

    train(&out, &[&flags[..], &["--seed", "2", "--overwrite"]].concat());
    assert_eq!(note(&out, "run"), note(&other, "run"));
    assert_eq!(rows(&out).len(), 3);
    [out, other].iter().for_each(|f| std::fs::remove_dir_all(f).unwrap());
}
