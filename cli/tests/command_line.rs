//! The commands `train`, `devices`, `check` and `inspect`: output, files and exit codes.

use crate::program::*;
use frazil::checkpoint::Checkpoint;
use std::path::Path;
use std::process::Command;

#[test]
fn train_prints_json_lines_and_writes_checkpoint_and_metrics() {
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
    assert!(tensors.tensor("mask.fc1.kernel").is_err(), "no mask without frozen elements");

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
    // `train` is the default command.
    let output = frazil(&[&flags[..], &rest[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let done = lines(&output).pop().unwrap();
    assert_eq!((&done["frozen_total"], &done["frozen_changed"]), (&(160 + 8192).into(), &0.into()));
    assert_eq!(done["steps"], 12);
    let bytes = std::fs::read(out.join("weights.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert!(tensors.tensor("state.v.fc1.kernel").is_ok(), "adamw's state");
    std::fs::remove_dir_all(&out).unwrap();

    let flags = ["--optimizer", "rmsprop", "--momentum", "0.5", "--centered", "--accumulate", "5"];
    let more = ["--schedule", "cosine:total=3,warm-up=1", "--clip-norm", "1"];
    let rest = ["--epochs", "1", "--batch", "128", "--json", "--out", out.to_str().unwrap()];
    let output = frazil(&[&flags[..], &more, &rest].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // With `--accumulate 5`, the 12 batches of an epoch are 3 updates of 5, 5 and 2 batches.
    assert_eq!(lines(&output).pop().unwrap()["steps"], 3);
    let bytes = std::fs::read(out.join("weights.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for slot in ["square_avg", "grad_avg", "momentum"] {
        assert!(tensors.tensor(&format!("state.{slot}.fc1.kernel")).is_ok(), "{slot}");
    }
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn invalid_arguments_exit_with_2_and_a_message() {
    let wrong: [(&[&str], &str); 19] = [
        (&["--freeze", "conv*.kernel"], "GLOB=RULE"),
        (&["--freeze", "conv*.kernel=some"], "--freeze: expected all, none, random:FRACTION"),
        (&["--freeze", "pool*=all"], "pool*"),
        (&["--mask-schedule", "fc*=linear:final=1"], "--mask-schedule: expected constant:fraction=F"),
        (&["--mask-schedule", "pool*=constant:fraction=0.5"], "pool*"),
        (&["--optimizer", "adam", "--momentum", "0.9"], "--optimizer sgd"),
        (&["--centered"], "--optimizer rmsprop"),
        (&["--bias-correction", "element-steps"], "--optimizer adam, adamw or amsgrad"),
        (&["--optimizer", "adam", "--bias-correction", "steps"], "element-steps or trainer-steps"),
        (&["--schedule", "cosine"], "total"),
        (&["--schedule", "custom"], "polynomial"),
        (&["--clip-norm", "1", "--clip-value", "1"], "--clip-value"),
        (&["--clip-norm=-1"], "clip"),
        (&["--accumulate", "0"], "--accumulate"),
        (&["--lr=-1"], "learning rate"),
        (&["--epochs", "0"], "--epochs: expected 1 or more, got 0"),
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
fn help_wraps_at_the_terminal_width() {
    for columns in [80, 120] {
        for arguments in [&["--help"][..], &["train", "--help"], &["bench", "--help"], &["check", "-h"]] {
            let text = String::from_utf8(frazil_in(columns, arguments).stdout).unwrap();
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= columns && longest > columns - 20, "{arguments:?}: {longest} of {columns}");
        }
        // The examples of rules in the help text are a table, so no line may be wrapped.
        let text = String::from_utf8(frazil_in(columns, &["train", "--help"]).stdout).unwrap();
        let (_, rules) = text.split_once("by example:\n").unwrap();
        assert!(
            rules.lines().all(|line| line.is_empty() || line.contains("   ") || line.ends_with(':')),
            "{rules}"
        );
    }
}

#[test]
fn failing_calls_end_with_a_json_error_and_an_exit_code_by_kind() {
    let cases: [(&[&str], i32, &str, &str); 10] = [
        (&["train", "--adapter", "no such card"], 3, "no_adapter", "no such card"),
        (&["check", "--adapter", "no such card"], 3, "no_adapter", "no such card"),
        (&["bench", "--adapter", "no such card"], 3, "no_adapter", "no such card"),
        (&["train", "--epochs", "0"], 2, "invalid_argument", "--epochs: expected 1 or more, got 0"),
        (&["train", "--freeze", "pool*=all"], 2, "unknown_parameter", "pool*"),
        (&["train", "--batch", "many"], 2, "invalid_argument", "many"),
        (&["fly"], 2, "invalid_argument", "fly"),
        (&["inspect"], 2, "invalid_argument", "FILE"),
        (&["inspect", "no-such-file"], 1, "io", "no-such-file"),
        (&["devices", "--fly"], 2, "invalid_argument", "--fly"),
    ];
    for (arguments, code, kind, part) in cases {
        let output = frazil(&[arguments, &["--json"]].concat());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        let all = lines(&output);
        let [error] = all.as_slice() else { panic!("{arguments:?}: expected one object, got {all:?}") };
        assert_eq!((&error["kind"], &error["exit_code"]), (&kind.into(), &code.into()), "{arguments:?}");
        assert!(error["error"].as_str().unwrap().contains(part), "{arguments:?}: {error}");
        assert!(message.contains(part), "{arguments:?}: {message}");
    }
    let out = folder("nan");
    let output = frazil(&["--lr", "1e30", "--epochs", "1", "--json", "--out", out.to_str().unwrap()]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("NaN or infinite at step"), "{message}");
    assert!(message.contains("begin again with a lower --lr"), "what to do: {message}");
    assert_eq!(lines(&output).pop().unwrap()["kind"], "non_finite_loss");
    std::fs::remove_dir_all(out).unwrap();
}

/// With a Vulkan loader that finds no driver, and no driver for OpenGL.
#[cfg(target_os = "linux")]
#[test]
fn commands_without_an_adapter_exit_with_3() {
    for command in ["devices", "check", "train", "bench"] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_frazil"));
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"] {
            program.env(variable, "/dev/null");
        }
        for variable in ["__EGL_VENDOR_LIBRARY_DIRS", "__EGL_VENDOR_LIBRARY_FILENAMES", "LIBGL_DRIVERS_PATH"]
        {
            program.env(variable, "/dev/null");
        }
        let output = program.args([command, "--json"]).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{command}: {output:?}");
        let error = lines(&output).pop().unwrap();
        assert_eq!((&error["kind"], &error["exit_code"]), (&"no_adapter".into(), &3.into()), "{command}");
        assert!(message.contains("mesa-vulkan-drivers"), "{command}: {message}");
    }
}

/// On a terminal of 80 columns, the line about a software adapter was broken inside a word, because it began
/// with a time and a module.
#[test]
fn messages_begin_with_their_kind() {
    let output = frazil(&["train", "--adapter", "0", "--freeze", "nothing=all"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    let known = |line: &str| ["frazil: ", "warning: "].iter().any(|kind| line.starts_with(kind));
    // Mesa prints a line of its own if XDG_RUNTIME_DIR is not set.
    assert!(message.lines().all(|line| known(line) || line.contains("XDG_RUNTIME_DIR")), "{message}");
    let devices = lines(&frazil(&["devices", "--json"]));
    if devices[0]["software_adapter"] == true {
        let name = devices[0]["adapter"].as_str().unwrap();
        assert!(message.contains(&format!("warning: {name} is a software adapter: correct, but slow\n")));
    }
}

#[test]
fn refusals_say_what_to_do_instead() {
    let out = folder("refusals");
    let path = out.to_str().unwrap();
    let cases: [(&[&str], &[&str]); 3] = [
        (&["--freeze", "conv1=all"], &["conv1.*"]),
        (&["--freeze", "*=all", "--cache-prefix"], &["--cache-prefix", "all parameters frozen", "evaluate"]),
        (&["--override"], &["--resume"]),
    ];
    for (flags, parts) in cases {
        let output = frazil(&[&["train", "--epochs", "1", "--out", path], flags].concat());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{flags:?}: {message}");
    }
    let output = frazil(&["train", "--freeze", "*=all", "--epochs", "1", "--out", path]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && message.contains("nothing will train"), "{message}");
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn devices_lists_all_adapters() {
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
fn check_prints_a_verdict_for_each_kernel() {
    let output = frazil(&["check", "--json", "--family", "register"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let all = lines(&output);
    let (done, kernels) = all.split_last().unwrap();
    assert_eq!((&done["done"], &done["passed"]), (&true.into(), &true.into()));
    for kernel in ["gemm_register", "im2col", "adam_update", "max_pool2d_grad"] {
        let line = kernels.iter().find(|line| line["kernel"] == kernel).unwrap_or_else(|| panic!("{kernel}"));
        assert!(line["runs"].as_u64() > Some(5) && line["worst_of_bound"].as_f64() <= Some(1.0), "{line}");
    }
}

#[test]
fn inspect_prints_a_checkpoint_and_compares_frozen_elements() {
    let out = folder("inspect");
    let flags = ["--freeze", "conv1.kernel=random:0.25", "--epochs", "1", "--batch", "512"];
    let done = train(&out, &flags);
    let file = out.join("weights.safetensors");
    let name = file.to_str().unwrap();
    let output = frazil(&["inspect", name, "--json"]);
    assert!(output.status.success());
    let all = lines(&output);
    let (last, tensors) = all.split_last().unwrap();
    // The checkpoint has 17 tensors: 8 parameters, 8 momentum buffers and 1 mask.
    assert_eq!(tensors.len(), 17);
    let kernel = tensors.iter().find(|line| line["tensor"] == "conv1.kernel").unwrap();
    assert_eq!((&kernel["dtype"], &kernel["shape"]), (&"f32".into(), &serde_json::json!([3, 3, 1, 16])));
    assert_eq!((&kernel["frozen"], &kernel["frozen_fraction"]), (&36.into(), &0.25.into()));
    for field in ["digest", "frozen_digest"] {
        assert_eq!(last[field], done[field], "as printed by `frazil train`");
    }
    assert_eq!((&last["frozen"], &last["elements"]), (&36.into(), &38282.into()));
    assert_eq!(last["notes"]["note.epoch"], "1");
    let text = String::from_utf8(frazil(&["inspect", name]).stdout).unwrap();
    assert!(text.contains("36 (25.0 %)") && text.contains("36 of 38282 weights frozen"), "{text}");

    // Further training keeps the frozen elements; another seed gives other values.
    let (same, other) = (out.join("same"), out.join("other"));
    train(&same, &["--resume", name, "--epochs", "2"]);
    train(&other, &[&flags[..], &["--seed", "2"]].concat());
    let against = |folder: &Path| {
        let file = folder.join("weights.safetensors");
        let output = frazil(&["inspect", name, "--json", "--against", file.to_str().unwrap()]);
        (output.status.code(), lines(&output))
    };
    let (code, all) = against(&same);
    assert_eq!(
        (code, &all[..]),
        (Some(0), &[serde_json::json!({"done": true, "frozen": 36, "differing": 0})][..])
    );
    let (code, all) = against(&other);
    assert_eq!((code, all.len(), &all[10]["differing"]), (Some(1), 12, &36.into()));
    assert_eq!((&all[11]["kind"], &all[11]["exit_code"]), (&"verdict".into(), &1.into()));
    // The first line is the first frozen element with its bits in both files.
    let read = |path: &Path| frazil::checkpoint::Checkpoint::read(path).unwrap();
    let (left, right) = (read(&file), read(&other.join("weights.safetensors")));
    let index = left.mask("conv1.kernel").frozen_indices().next().unwrap();
    let bits = |of: &frazil::checkpoint::Checkpoint| {
        format!("{:#010x}", of.tensor("conv1.kernel").unwrap().bits()[index])
    };
    assert_eq!((&all[0]["index"], &all[0]["expected"]), (&index.into(), &bits(&left).into()));
    assert_eq!((&all[0]["got"], &all[0]["coordinates"][3]), (&bits(&right).into(), &(index % 16).into()));
    // All frozen elements of a missing tensor count as differing.
    let empty = out.join("empty");
    std::fs::create_dir_all(&empty).unwrap();
    frazil::checkpoint::Checkpoint::default().write(&empty.join("weights.safetensors")).unwrap();
    let (code, all) = against(&empty);
    assert_eq!((code, &all[0]["got"], &all[1]["differing"]), (Some(1), &"none".into(), &36.into()));

    let output = frazil(&["inspect", "no-such-file"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-file"));
    assert_eq!(frazil(&["inspect"]).status.code(), Some(2));
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn data_set_selects_the_default_model() {
    let out = folder("idx");
    write_idx(&out, 7);
    let data = format!("idx:{}", out.display());
    let flags = ["--data", &data, "--epochs", "1", "--batch", "4", "--freeze", "conv1.kernel=random:0.5"];
    let done = train(&out, &flags);
    assert_eq!((&done["steps"], &done["frozen_total"]), (&3.into(), &400.into()));
    let missing = format!("cifar10:{}", out.display());
    let wrong: [(&[&str], i32, &str); 3] = [
        (&["--data", "mnist"], 2, "digits, idx:DIR, cifar10:DIR, cifar100:DIR, folder:DIR or csv:FILE"),
        (&["--model", "lenet"], 2, "--model: expected one of digits, lenet28"),
        (&["--data", &missing], 1, "data_batch_1.bin"),
    ];
    for (flags, code, part) in wrong {
        let output = frazil(flags);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {message}");
        assert!(message.contains(part), "{flags:?}: {message}");
    }
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn cached_outputs_of_frozen_layers_give_identical_results() {
    let folders = ["prefix-plain", "prefix-cached", "prefix-resumed"].map(folder);
    let flags = ["--freeze", "conv*=all", "--batch", "100"];
    let plain = train(&folders[0], &[&flags[..], &["--epochs", "2"]].concat());
    let cached = train(&folders[1], &[&flags[..], &["--epochs", "2", "--cache-prefix"]].concat());
    // `--cache-prefix` is not stored in the checkpoint.
    train(&folders[2], &[&flags[..], &["--epochs", "1", "--cache-prefix"]].concat());
    let file = folders[2].join("weights.safetensors");
    let resumed = train(&folders[2], &["--resume", file.to_str().unwrap(), "--epochs", "2"]);
    for done in [&cached, &resumed] {
        for field in ["digest", "frozen_digest", "steps", "test_accuracy"] {
            assert_eq!(done[field], plain[field], "{field}");
        }
    }
    let out = folders[2].to_str().unwrap();
    let output = frazil(&[
        "train",
        "--freeze",
        "conv2.*=all",
        "--cache-prefix",
        "--epochs",
        "1",
        "--overwrite",
        "--out",
        out,
    ]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    for part in ["--cache-prefix", "fully frozen lowest layers", "trainable elements in conv1.kernel"] {
        assert!(message.contains(part), "{message}");
    }
    folders.iter().for_each(|f| std::fs::remove_dir_all(f).unwrap());
}

#[test]
fn a_loss_that_does_not_move_gives_a_hint_once() {
    let out = folder("stuck");
    let path = out.to_str().unwrap();
    let hints = |rate: &str| {
        let output = frazil(&[
            "train",
            "--json",
            "--out",
            path,
            "--epochs",
            "3",
            "--batch",
            "256",
            "--overwrite",
            "--lr",
            rate,
        ]);
        assert!(output.status.success(), "{output:?}");
        lines(&output).iter().filter(|line| line["hint"].is_string()).count()
    };
    assert_eq!((hints("1e-9"), hints("0.1")), (1, 0));
    std::fs::remove_dir_all(&out).unwrap();
}

/// The learning rate jumps after the first epoch: weights that diverge are written under another name, and the
/// good checkpoint stays.
#[test]
fn diverged_weights_do_not_replace_the_last_good_checkpoint() {
    let out = folder("diverged");
    let path = out.to_str().unwrap();
    let epoch = |name: &str| Checkpoint::read(&out.join(name)).unwrap().notes()["note.epoch"].clone();
    // With the first factor the loss stays finite, with the second an update overflows.
    for (factor, last) in [("1e6", "3"), ("1e9", "1")] {
        let schedule = format!("step:every=6,factor={factor}");
        let flags = ["--optimizer", "adam", "--schedule", &schedule, "--batch", "256", "--epochs", "3"];
        let output = frazil(&[&["train", "--json", "--save-every", "1", "--out", path], &flags[..]].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let all = lines(&output);
        let diverged = all.iter().filter(|line| line["diverged"].is_string());
        assert!(diverged.count() >= 1, "{all:?}");
        assert_eq!((epoch("weights.safetensors"), epoch("diverged.safetensors")), ("1".into(), last.into()));
        let good = Checkpoint::read(&out.join("weights.safetensors")).unwrap();
        let bits = good.tensor("fc1.kernel").unwrap().bits();
        assert!(bits.iter().all(|&bits| f32::from_bits(bits).abs() < 1.0));
        if factor == "1e9" {
            let message = String::from_utf8_lossy(&output.stderr);
            assert!(message.contains("NaN or infinite") && message.contains("step"), "{message}");
        }
        std::fs::remove_dir_all(&out).unwrap();
    }
}

#[cfg(not(feature = "mpi"))]
#[test]
fn a_program_without_mpi_does_not_train_in_several_processes() {
    let mut program = Command::new(PROGRAM);
    let output = program.args(["train", "--json"]).env("OMPI_COMM_WORLD_SIZE", "2").output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("--features mpi"), "{message}");
}
