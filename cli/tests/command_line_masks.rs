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
fn all_but_the_largest_scores_are_frozen() {
    let (base, out) = (folder("scores-base"), folder("scores"));
    let fast = ["--epochs", "1", "--batch", "512"];
    train(&base, &[fast.as_slice(), &["--freeze", "*=none"]].concat());
    let file = base.join("weights.safetensors");
    // 144, 4,608, 32,768 and 640 weights; the same seed gives the base's initial weights.
    let total = 144 + 4608 + 32768 + 640;
    let kept = |fraction: f64, weights: usize| (fraction * weights as f64).round() as usize;
    let moved = format!("*.kernel=top-moved-global:0.02:{}", file.display());
    let each = [144, 4608, 32768, 640].map(|weights| weights - kept(0.05, weights)).iter().sum::<usize>();
    for (rule, frozen) in [
        ("*.kernel=top-score:0.05", each),
        ("*.kernel=top-score-global:0.01:weight-gradient", total - kept(0.01, total)),
        ("conv1.kernel=top-score:0.25:squared-gradient", 144 - 36),
        (&moved, total - kept(0.02, total)),
    ] {
        let flags = [fast.as_slice(), &["--overwrite", "--freeze", rule]].concat();
        let done = train(&out, &flags);
        assert_eq!((&done["frozen_total"], &done["frozen_changed"]), (&frozen.into(), &0.into()), "{rule}");
    }
    for (rule, part) in [
        ("*.kernel=top-moved:0.1:none.safetensors", "none.safetensors"),
        ("*.kernel=top-moved:2:none.safetensors", "from 0 to 1"),
        ("*.kernel=top-score:0.1:hessian", "squared-gradient"),
    ] {
        let output = frazil(&["train", "--out", out.to_str().unwrap(), "--overwrite", "--freeze", rule]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(part), "{rule}: {message}");
    }
    [base, out].iter().for_each(|folder| std::fs::remove_dir_all(folder).unwrap());
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

/// Writes a data set in CIFAR-10's format with `train` and `test` random examples; `train` is a multiple of 5.
fn write_cifar10(folder: &Path, train: usize, test: usize) {
    std::fs::create_dir_all(folder).unwrap();
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut write = |name: &str, records: usize| {
        let mut bytes = Vec::new();
        for _ in 0..records {
            bytes.push(byte() % 10);
            bytes.extend((0..3072).map(|_| byte()));
        }
        std::fs::write(folder.join(name), bytes).unwrap();
    };
    (1..=5).for_each(|number| write(&format!("data_batch_{number}.bin"), train / 5));
    write("test_batch.bin", test);
}

/// Statistics that move although the weights of their batch norm are frozen are named; `--freeze-statistics`
/// keeps them, and with `--use-running-statistics` cached outputs continue past the batch norm.
#[test]
fn running_statistics_are_named_frozen_and_used() {
    let data = folder("statistics-data");
    write_cifar10(&data, 20, 8);
    let set = format!("cifar10:{}", data.display());
    let flags = ["--data", &set, "--model", "mobilenet-small", "--batch", "10", "--epochs", "1"];
    let frozen = ["--freeze", "conv1.*=all", "--freeze", "bn1.*=all"];
    let names = ["bn1.running_mean", "bn1.running_var"];
    let [moving, kept, whole, cached] =
        ["statistics-moving", "statistics-kept", "statistics-whole", "statistics-cached"].map(folder);
    let path = |out: &Path| out.join("weights.safetensors").to_str().unwrap().to_owned();
    let statistics = |out: &Path| {
        let read = Checkpoint::read(path(out).as_ref()).unwrap();
        names.map(|name| read.tensor(name).unwrap().bits().to_vec())
    };
    let initial = [0f32, 1.0].map(|value| vec![value.to_bits(); 16]);
    let inspected = |out: &Path| lines(&frazil(&["inspect", "--json", &path(out)])).pop().unwrap();

    let out = moving.to_str().unwrap();
    let output = frazil(&[&["train", "--out", out], &flags[..], &frozen].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let line = "not frozen although the weights of their layers are: running statistics bn1.running_mean, bn1.running_var";
    assert!(output.status.success() && text.contains(line), "{text}");
    assert!(statistics(&moving).iter().zip(&initial).all(|(now, then)| now != then));
    assert_eq!(inspected(&moving)["moving_statistics"], serde_json::json!(names));
    let text = String::from_utf8(frazil(&["inspect", &path(&moving)]).stdout).unwrap();
    assert!(text.contains(line), "{text}");

    let done = train(&kept, &[&flags[..], &frozen, &["--freeze-statistics", "bn1"]].concat());
    assert_eq!((&done["moving_statistics"], &done["frozen_changed"]), (&serde_json::json!([]), &0.into()));
    assert_eq!(done["frozen_total"], 27 * 16 + 4 * 16);
    assert_eq!(statistics(&kept), initial);
    assert_eq!(inspected(&kept)["moving_statistics"], serde_json::json!([]));

    let resume = ["--resume", &path(&moving), "--epochs", "2", "--use-running-statistics", "bn1"];
    let output =
        frazil(&[&["train", "--out", cached.to_str().unwrap(), "--cache-prefix"], &resume[..]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("outputs of the lowest 3 layers cached"), "{text}");
    train(&whole, &resume);
    let bytes = |out: &Path| std::fs::read(path(out)).unwrap();
    assert!(bytes(&whole) == bytes(&cached), "cached outputs give the same bits");
    assert_eq!(statistics(&whole), statistics(&moving));
    let output =
        frazil(&[&["train", "--out", out, "--use-running-statistics", "conv1"], &flags[..]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bn1"), "{output:?}");
    [data, moving, kept, whole, cached].iter().for_each(|f| std::fs::remove_dir_all(f).unwrap());
}
