//! Rules of `--freeze` and schedules of `--mask-schedule`: exact numbers of frozen elements.

use crate::program::*;
use frazil::checkpoint::Checkpoint;
use frazil::mask::{FreezeRule, MaskSchedule};
use std::path::Path;
use std::process::Command;

/// Reads a checkpoint with `frazil inspect`; returns a function from a tensor to its number of frozen
/// elements, and the frozen fraction of all weights.
fn inspect(out: &Path) -> (impl Fn(&str) -> u64 + use<>, f64) {
    let file = out.join("weights.safetensors");
    let output = frazil(&["inspect", "--json", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all = lines(&output);
    let total_fraction = all[all.len() - 1]["frozen_fraction"].as_f64().unwrap();
    let frozen = move |path: &str| {
        let line = all.iter().find(|line| line["tensor"] == path).unwrap();
        line["frozen"].as_u64().unwrap()
    };
    (frozen, total_fraction)
}

#[test]
fn rules_freeze_exact_numbers_of_elements() {
    let out = folder("rules");
    // Rules of `--freeze` in order, each with the number of elements that it freezes in addition to the rules
    // before it.
    let rules = [
        ("conv1.kernel=filters:at:0", 9),
        ("conv1.kernel=filters:at:0,3", 9),
        ("conv1.bias=smallest:0.25", 4),
        ("conv2.kernel=position:1,1", 16 * 32),
        ("conv2.bias=random:0.5", 16),
        ("conv2.bias=random:0.5:trainable", 8),
        ("fc1.kernel=n-of-m:1:4", 3 * 512 * 64 / 4),
        ("fc1.bias=equal:-0", 64),
        ("fc2.kernel=block:0..8,2..5", 24),
        ("fc2.b*=all", 10),
    ];
    let mut flags = vec!["--epochs", "1", "--batch", "512"];
    rules.iter().for_each(|(rule, _)| flags.extend(["--freeze", rule]));
    let done = train(&out, &flags);
    let total: usize = rules.iter().map(|(_, count)| count).sum();
    assert_eq!((&done["frozen_total"], &done["frozen_changed"]), (&total.into(), &0.into()));
    let (frozen, total_fraction) = inspect(&out);
    for path in ["conv1.kernel", "conv1.bias", "conv2.kernel", "conv2.bias", "fc1.kernel", "fc1.bias"] {
        let due: usize =
            rules.iter().filter(|(rule, _)| rule.starts_with(path)).map(|(_, count)| count).sum();
        assert_eq!(frozen(path), due as u64, "{path}");
    }
    assert_eq!(total_fraction, total as f64 / 38282.0);

    // Another run, with another seed, takes its masks from that checkpoint with the rule `file:`.
    let (file, again) = (out.join("weights.safetensors"), folder("rules-of-a-file"));
    let rule = format!("*=file:{}:mask.*", file.display());
    let done = train(&again, &["--epochs", "1", "--batch", "512", "--seed", "9", "--freeze", &rule]);
    assert_eq!(done["frozen_total"], total);
    let [first, second] = [&out, &again].map(|f| Checkpoint::read(&f.join("weights.safetensors")).unwrap());
    for path in first.parameters() {
        assert_eq!(first.mask(path), second.mask(path), "{path}");
    }
    [out, again].iter().for_each(|f| std::fs::remove_dir_all(f).unwrap());
}

#[test]
fn mask_schedule_prunes_to_its_fraction_and_continues_after_a_resume() {
    let (uninterrupted, resumed) = (folder("schedule"), folder("schedule-resumed"));
    // An epoch has six steps. The polynomial schedule prunes before steps 0, 4, 8 and 11.
    let flags = [
        "--freeze",
        "*=none",
        "--mask-schedule",
        "fc*.kernel=polynomial:final=0.9,begin=0,end=11,every=4",
        "--mask-schedule",
        "conv2.kernel=constant:fraction=0.25,begin=2",
        "--optimizer",
        "adamw",
        "--batch",
        "256",
    ];
    let kernels = [("fc1.kernel", 32768.0), ("fc2.kernel", 640.0)];
    let check = |out: &Path, fraction: f64| {
        let (frozen, total_fraction) = inspect(out);
        let mut total = 4608.0 * 0.25;
        for (path, elements) in kernels {
            let due = (fraction * elements).round();
            assert_eq!(frozen(path), due as u64, "{path}");
            total += due;
        }
        assert_eq!((frozen("conv2.kernel"), frozen("conv1.kernel")), (1152, 0));
        assert_eq!(total_fraction, total / 38282.0);
        let read = Checkpoint::read(&out.join("weights.safetensors")).unwrap();
        for path in ["fc1.kernel", "fc2.kernel", "conv2.kernel"] {
            let bits = read.tensor(path).unwrap().bits();
            assert!(read.mask(path).frozen_indices().all(|i| bits[i] == 0), "{path}: pruned elements are 0");
        }
    };
    train(&resumed, &[&flags[..], &["--epochs", "1"]].concat());
    check(&resumed, 0.9 - 0.9 * (1.0 - 4.0_f64 / 11.0).powi(3));
    let file = resumed.join("weights.safetensors");
    let got = train(&resumed, &["--resume", file.to_str().unwrap(), "--epochs", "2"]);
    let expected = train(&uninterrupted, &[&flags[..], &["--epochs", "2"]].concat());
    check(&uninterrupted, 0.9);
    for field in ["digest", "frozen_digest", "frozen_total", "steps", "test_accuracy"] {
        assert_eq!(got[field], expected[field], "{field}");
    }
    assert_eq!(expected["frozen_changed"], 0);
    assert_eq!(rows(&resumed), rows(&uninterrupted));
    let bytes = |out: &Path| std::fs::read(out.join("weights.safetensors")).unwrap();
    assert!(bytes(&resumed) == bytes(&uninterrupted), "the files are the same");
    [uninterrupted, resumed].iter().for_each(|f| std::fs::remove_dir_all(f).unwrap());
}

#[test]
fn save_every_writes_periodic_checkpoints_and_a_final_one() {
    let out = folder("save-every");
    let file = out.join("weights.safetensors");
    let epoch = || Checkpoint::read(&file).unwrap().notes()["note.epoch"].parse::<usize>().unwrap();
    train(&out, &["--save-every", "3", "--epochs", "5", "--batch", "512"]);
    assert_eq!(epoch(), 5);
    std::fs::remove_dir_all(&out).unwrap();

    let mut child = Command::new(env!("CARGO_BIN_EXE_frazil"))
        .args(["train", "--save-every", "3", "--epochs", "500", "--batch", "512", "--out"])
        .arg(&out)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    while !file.exists() {
        assert!(begun.elapsed().as_secs() < 120 && child.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(7));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(epoch() % 3 == 0 && epoch() < 500, "{}", epoch());
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn help_lists_all_rules_and_schedules_and_its_examples_parse() {
    let output = frazil(&["train", "--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, lists) = text.split_once("Rules of --freeze, by example:\n").unwrap();
    let (rules, schedules) = lists.split_once("Schedules of --mask-schedule, by example:\n").unwrap();
    let examples = |list: &str| -> Vec<String> {
        list.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    };
    for rule in examples(rules) {
        rule.parse::<FreezeRule>().unwrap_or_else(|e| panic!("{e}"));
    }
    for schedule in examples(schedules) {
        schedule.parse::<MaskSchedule>().unwrap_or_else(|e| panic!("{e}"));
    }
    for (forms, list) in [(FreezeRule::SYNTAX, rules), (MaskSchedule::SYNTAX, schedules)] {
        let names = forms.split_whitespace().filter_map(|word| word.split_once(':').map(|(name, _)| name));
        for name in names {
            assert!(list.contains(&format!("{name}:")), "{name}");
        }
    }
}
