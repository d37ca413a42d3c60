//! Several processes that MPI starts: the bits of accumulation in one process, what travels, ranks that differ, and
//! ranks that fail, hang or are killed.

use crate::program::*;
use frazil::checkpoint::Checkpoint;
use image::RgbImage;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const WEIGHTS: &str = "weights.safetensors";

/// `mpirun`, which starts more processes than there are processors; whether it is Open MPI.
fn mpirun() -> Command {
    let mut mpirun = Command::new("mpirun");
    // Open MPI refuses to run as root, as in a container, and on fewer processors than processes, without these.
    for name in
        ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"]
    {
        mpirun.env(name, "1");
    }
    // In a container, processes may not read each other's memory.
    mpirun.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    mpirun
}

/// Runs the program with these arguments in `count` processes.
fn on(count: usize, arguments: &[&str]) -> Output {
    mpirun().args(["-n", &count.to_string(), PROGRAM]).args(arguments).output().expect("mpirun")
}

/// Runs one process for each list: arguments of mpirun, and arguments of `frazil train`.
fn differently(each: &[(&[&str], &[&str])], out: &Path) -> (Option<i32>, String) {
    let mut command = mpirun();
    for (number, (launcher, arguments)) in each.iter().enumerate() {
        if number > 0 {
            command.arg(":");
        }
        command
            .args(["-n", "1"])
            .args(*launcher)
            .arg(PROGRAM)
            .args(["train", "--epochs", "1"])
            .args(*arguments);
        command.arg("--out").arg(out);
    }
    let output = command.output().expect("mpirun");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The summary of a successful run.
fn summary(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(output));
    lines(output).pop().unwrap()
}

/// Trains in `count` processes, and in one that accumulates as many batches; returns both summaries and both folders.
fn both(name: &str, count: usize, flags: &[&str]) -> ([Value; 2], [PathBuf; 2]) {
    let folders = ["several", "one"].map(|kind| folder(&format!("mpi-{name}-{kind}")));
    let [several, one] = folders.each_ref().map(|folder| folder.to_str().unwrap());
    let fixed = ["train", "--json", "--out"];
    let together = on(count, &[&fixed[..], &[several], flags].concat());
    let accumulated = frazil(&[&fixed[..], &[one, "--accumulate", &count.to_string()], flags].concat());
    ([summary(&together), summary(&accumulated)], folders)
}

fn remove(folders: &[PathBuf]) {
    folders.iter().for_each(|folder| std::fs::remove_dir_all(folder).unwrap());
}

/// Trained parameters, optimizer state and masks of a checkpoint, without running statistics.
fn trained(folder: &Path) -> Vec<(String, Vec<u32>)> {
    let checkpoint = Checkpoint::read(&folder.join(WEIGHTS)).unwrap();
    let names = checkpoint.parameters().into_iter().filter(|path| !path.contains("running_"));
    names.map(|path| (path.to_owned(), checkpoint.tensor(path).unwrap().bits().to_vec())).collect()
}

#[test]
fn ranks_have_the_bits_of_accumulation_in_one_process() {
    let schedule = "*.kernel=polynomial:final=0.8,begin=2,end=20,every=4";
    let runs: [(&str, usize, &[&str]); 8] = [
        ("sgd", 2, &["--freeze", "*=none"]),
        ("sgd", 3, &["--nesterov", "--clip-norm", "0.5", "--freeze", "*.kernel=random:0.5"]),
        ("adam", 2, &["--freeze", "*.kernel=random:0.9", "--schedule", "cosine:total=40,warm-up=5"]),
        ("adamw", 3, &["--freeze", "*.kernel=random:0.99"]),
        ("amsgrad", 2, &["--clip-value", "0.01"]),
        ("rmsprop", 3, &["--centered", "--momentum", "0.5"]),
        ("adagrad", 2, &["--freeze", "conv1.kernel=all"]),
        ("adam", 3, &["--mask-schedule", schedule, "--check-ranks-every", "7"]),
    ];
    for (number, (optimizer, count, flags)) in runs.into_iter().enumerate() {
        let fixed = ["--optimizer", optimizer, "--epochs", "2", "--batch", "48"];
        let ([several, one], folders) = both(&format!("bits-{number}"), count, &[&fixed[..], flags].concat());
        for name in ["digest", "frozen_digest", "steps", "frozen_total"] {
            assert_eq!(several[name], one[name], "{optimizer} in {count} processes, {flags:?}: {name}");
        }
        assert_eq!((&several["processes"], &several["frozen_changed"]), (&count.into(), &0.into()));
        // Accuracy counts; losses are added in another order.
        let table = |folder: &Path| {
            let rows = rows(folder);
            let numbers =
                |row: &String| row.split(',').map(|n| n.parse::<f64>().unwrap()).collect::<Vec<_>>();
            rows[1..].iter().map(numbers).collect::<Vec<_>>()
        };
        for (own, other) in table(&folders[0]).iter().flatten().zip(table(&folders[1]).iter().flatten()) {
            assert!((own - other).abs() <= 1e-5 * other.abs(), "{own} {other}");
        }
        remove(&folders);
    }
}

/// Writes images of three classes; returns the flag of the data.
fn images(folder: &Path, count: u32) -> String {
    for (number, class) in ["a", "b", "c"].into_iter().enumerate() {
        let folder = folder.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for index in 0..count {
            let pixel = |x: u32, y: u32| {
                let hash = (x * 31 + y * 17 + index * 101).wrapping_mul(2_654_435_761) >> 25;
                let mut color = [hash as u8; 3];
                color[number] = 255;
                image::Rgb(color)
            };
            RgbImage::from_fn(32, 32, pixel).save(folder.join(format!("{index}.png"))).unwrap();
        }
    }
    format!("folder:{}", folder.display())
}

#[test]
fn larger_networks_have_the_bits_of_accumulation_but_for_running_statistics() {
    let base = folder("mpi-networks");
    let idx = base.join("idx");
    write_idx(&idx, 7);
    let idx = format!("idx:{}", idx.display());
    let flags = ["--data", &idx, "--epochs", "3", "--batch", "2", "--freeze", "conv*.kernel=random:0.9"];
    let ([several, one], folders) = both("lenet28", 2, &flags);
    assert_eq!(several["digest"], one["digest"]);
    remove(&folders);

    // 9 batches of 5 for 2 processes: in the last step, one has none. Each decodes only its own images.
    let data = images(&base.join("images"), 15);
    let flags = ["--data", &data, "--model", "resnet20", "--size", "32x32", "--epochs", "1", "--batch", "5"];
    let more = ["--validation", "0.1", "--augment", "flip,crop", "--freeze", "*.conv*.kernel=random:0.5"];
    let ([several, one], folders) = both("resnet20", 2, &[&flags[..], &more].concat());
    assert_eq!(several["steps"], one["steps"]);
    assert!(trained(&folders[0]) == trained(&folders[1]), "trained parameters");
    // Running statistics are the mean over the processes, not those of one batch after another.
    assert_ne!(several["digest"], one["digest"]);
    remove(&folders);
    std::fs::remove_dir_all(base).unwrap();
}

#[test]
fn bytes_that_travel_are_those_of_trainable_elements() {
    for (fraction, count) in [("0", 2), ("0.9", 2), ("0.9", 3)] {
        let out = folder("mpi-bytes");
        let rule = format!("*.kernel=random:{fraction}");
        let path = out.to_str().unwrap();
        let flags = ["train", "--json", "--epochs", "1", "--batch", "100", "--freeze", &rule, "--out", path];
        let output = on(count, &[&flags[..], &["--check-ranks-every", "1000000"]].concat());
        let (first, last) =
            (lines(&output).into_iter().find(|line| line.get("gradient_bytes").is_some()), summary(&output));
        let live = first.unwrap()["gradient_bytes"].as_u64().unwrap() / 4;
        assert_eq!(live, last["trainable_total"].as_u64().unwrap());
        // Of the gradients, the loss's flag included, rank 0 sends all but its slice, and then its sums to each other.
        let (values, count) = (live + 1, count as u64);
        let own = values / count;
        let step = 4 * (values - own + own * (count - 1));
        let steps = last["steps"].as_u64().unwrap();
        let sent = last["bytes_sent"].as_u64().unwrap();
        let more = sent - steps * step;
        // Words: whether each rank goes on, examples and flags of a step, digests of parts at the start and the end.
        assert!(
            more < 40 * 8 * (count - 1) * (steps + 10),
            "{fraction}: {sent}, {more} of them words, {steps} steps"
        );
        std::fs::remove_dir_all(out).unwrap();
    }
}

#[test]
fn what_differs_between_processes_is_named_once() {
    let base = folder("mpi-differs");
    let [a, b] = ["a", "b"].map(|name| base.join(name));
    let out = base.join("out");
    for (folder, factor) in [(&a, 3), (&b, 5)] {
        write_idx(&folder.join("data"), factor);
    }
    // Masks of the same place, with other contents.
    for (folder, seed) in [(&a, "1"), (&b, "2")] {
        train(
            &folder.join("masks"),
            &["--epochs", "1", "--batch", "512", "--seed", seed, "--freeze", "conv1.kernel=random:0.5"],
        );
    }
    let masks = ["--freeze", "conv1.kernel=file:masks/weights.safetensors:mask.conv1.kernel"];
    let [a, b] = [a.to_str().unwrap(), b.to_str().unwrap()];
    let lr: [&[&str]; 2] = [&["--lr", "0.1"], &["--lr", "0.2"]];
    type Flags<'a> = &'a [&'a str];
    let cases: [([(Flags, Flags); 2], &str); 4] = [
        ([(&[], lr[0]), (&[], lr[1])], "a flag differs"),
        (
            [(&["-wdir", a], &["--data", "idx:data"]), (&["-wdir", b], &["--data", "idx:data"])],
            "the data differs",
        ),
        ([(&["-wdir", a], &masks), (&["-wdir", b], &masks)], "the mask of conv1.kernel differs"),
        ([(&[], &[]), (&[], &["--patience", "3"])], "--patience"),
    ];
    for (each, part) in cases {
        let (code, message) = differently(&each, &out);
        let errors: Vec<_> = message.lines().filter(|line| line.starts_with("frazil: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains("rank 1: ") && errors[0].contains(part), "{message}");
        assert!(code.is_some_and(|code| code != 0) && !out.join(WEIGHTS).exists(), "{message}");
    }
    let swiftshader = "VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json";
    if Path::new(swiftshader.split_once('=').unwrap().1).exists() {
        let (_, message) = differently(&[(&[], &[]), (&["-x", swiftshader], &[])], &out);
        assert!(message.contains("rank 1: the adapter or its driver differs"), "{message}");
        // Each process has another of these two drivers.
        let mesa = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";
        if Path::new(mesa).exists() {
            let drivers = swiftshader.replacen('=', &format!("={mesa}:"), 1);
            let rank: (Flags, Flags) = (&["-x", &drivers], &["--adapter-per-rank", "--backend", "vulkan"]);
            let (_, message) = differently(&[rank, rank], &out);
            assert!(message.contains("rank 1: the adapter or its driver differs"), "{message}");
        } else {
            skip("mpi: an adapter for each process", "no Mesa of this architecture");
        }
    } else {
        skip("mpi: adapters that differ", "no SwiftShader");
    }
    std::fs::remove_dir_all(base).unwrap();
}

#[test]
fn an_error_of_one_process_stops_all_and_is_printed_once() {
    let base = folder("mpi-error");
    let data = images(&base.join("images"), 8);
    // Decoded by one of the processes only.
    std::fs::write(base.join("images/b/3.png"), b"no image").unwrap();
    let out = base.join("out");
    let flags = [
        "train",
        "--data",
        &data,
        "--model",
        "digits",
        "--size",
        "12x12",
        "--batch",
        "2",
        "--validation",
        "0.2",
    ];
    let output = on(3, &[&flags[..], &["--out", out.to_str().unwrap()]].concat());
    let message = text(&output);
    assert!(!output.status.success());
    assert_eq!(message.matches("3.png").count(), 1, "{message}");
    let skipping = on(
        3,
        &[&flags[..], &["--skip-bad", "--epochs", "2", "--out", out.to_str().unwrap(), "--overwrite"]]
            .concat(),
    );
    assert!(skipping.status.success(), "{}", text(&skipping));

    for (arguments, part) in
        [(&["train", "--lr", "x"][..], "--lr"), (&["train", "--data", "folder:/nowhere"], "/nowhere")]
    {
        let output = on(2, arguments);
        assert!(!output.status.success());
        assert_eq!(
            text(&output).matches("invalid value").count() + text(&output).matches("frazil: ").count(),
            1,
            "{}",
            text(&output)
        );
        assert!(text(&output).contains(part), "{}", text(&output));
    }
    std::fs::remove_dir_all(base).unwrap();
}

#[test]
fn divergence_is_reported_by_one_process() {
    let out = folder("mpi-diverges");
    let output = on(2, &["train", "--epochs", "2", "--lr", "1e30", "--out", out.to_str().unwrap()]);
    let message = text(&output);
    assert!(!output.status.success());
    assert_eq!(
        message.lines().filter(|line| line.contains("became NaN or infinite")).count(),
        1,
        "{message}"
    );
    let _ = std::fs::remove_dir_all(out);
}

/// Starts a run of many epochs in two processes that saves after each, and waits for the first checkpoint.
fn started(out: &Path, epochs: &str, flags: &[&str]) -> Child {
    let fixed =
        ["-n", "2", PROGRAM, "train", "--save-every", "1", "--batch", "64", "--epochs", epochs, "--out"];
    let mut command = mpirun();
    command.args(fixed).arg(out).args(flags).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().expect("mpirun");
    let begun = Instant::now();
    while !out.join(WEIGHTS).exists() {
        assert!(begun.elapsed() < Duration::from_secs(150), "no checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// The processes that mpirun has started, in the order of their ranks.
fn processes(mpirun: &Child) -> Vec<String> {
    let output =
        Command::new("pgrep").args(["-P", &mpirun.id().to_string(), "frazil"]).output().expect("pgrep");
    let mut all: Vec<u32> =
        String::from_utf8_lossy(&output.stdout).lines().map(|id| id.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all.len(), 2);
    all.iter().map(u32::to_string).collect()
}

fn signal(name: &str, process: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), process]).status().unwrap().success());
}

/// Resumes in two processes up to the epoch after that of the checkpoint, and compares with an undisturbed run.
fn resumes_to_the_bit(out: &Path) {
    let epochs = (note(out, "epoch").unwrap().parse::<u64>().unwrap() + 1).to_string();
    let flags = ["train", "--json", "--batch", "64", "--epochs", &epochs];
    let file = out.join(WEIGHTS);
    let resumed = on(2, &["train", "--json", "--epochs", &epochs, "--resume", file.to_str().unwrap()]);
    let whole = out.with_extension("whole");
    let undisturbed = on(2, &[&flags[..], &["--out", whole.to_str().unwrap()]].concat());
    assert_eq!(summary(&resumed)["digest"], summary(&undisturbed)["digest"]);
    remove(&[whole]);
}

#[test]
fn killed_process_ends_the_job_and_the_checkpoint_resumes_to_the_bit() {
    let out = folder("mpi-killed");
    for rank in [1, 0] {
        let child = started(&out, "4000", &[]);
        signal("KILL", &processes(&child)[rank]);
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success());
        assert!(
            text(&output).contains("signal 9") || text(&output).contains("exit code: 9"),
            "{}",
            text(&output)
        );
        resumes_to_the_bit(&out);
        std::fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn process_that_does_not_answer_is_named_and_the_others_save() {
    let out = folder("mpi-hangs");
    let child = started(&out, "4000", &["--rank-timeout", "5"]);
    signal("STOP", &processes(&child)[1]);
    let output = child.wait_with_output().unwrap();
    let message = text(&output);
    let between =
        message.contains("rank 1: did not answer within 5s") && message.contains("saved; continue with");
    // If it stops while data are exchanged, the call of MPI never returns, and nothing more is saved.
    assert!(between || message.contains("in the middle of an exchange"), "{message}");
    assert_eq!(output.status.code(), Some(1), "{message}");
    resumes_to_the_bit(&out);
    std::fs::remove_dir_all(&out).unwrap();
}

#[test]
fn interrupted_job_saves_and_goes_on_with_another_number_of_processes() {
    let out = folder("mpi-interrupted");
    let child = started(&out, "4000", &[]);
    // To the processes, as `mpirun` itself leaves them one second only.
    processes(&child).iter().for_each(|process| signal("TERM", process));
    let output = child.wait_with_output().unwrap();
    let message = text(&output);
    assert!(
        message.contains("interrupted in epoch") && message.matches("continue with").count() == 1,
        "{message}"
    );
    resumes_to_the_bit(&out);
    let epochs = (note(&out, "epoch").unwrap().parse::<u64>().unwrap() + 1).to_string();
    let file = out.join(WEIGHTS);
    let more = on(3, &["train", "--json", "--epochs", &epochs, "--resume", file.to_str().unwrap()]);
    assert_eq!(summary(&more)["processes"], 3);
    assert!(note(&out, "overrides").unwrap().contains("processes 2 -> 3"));
    std::fs::remove_dir_all(&out).unwrap();
}

#[test]
fn full_disk_of_the_first_process_stops_all() {
    let out = folder("mpi-full");
    let script = "trap '' XFSZ; ulimit -f 100 && exec \"$0\" \"$@\"";
    let mut command = mpirun();
    command
        .args(["-n", "2", "sh", "-c", script, PROGRAM, "train", "--epochs", "1", "--batch", "128", "--out"]);
    let output = command.arg(&out).output().expect("mpirun");
    let message = text(&output);
    assert!(!output.status.success());
    let errors: Vec<_> = message.lines().filter(|line| line.starts_with("frazil: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains("ulimit -f"), "{message}");
    assert!(!out.join(WEIGHTS).exists());
    std::fs::remove_dir_all(&out).unwrap();
}

#[test]
fn early_stopping_and_the_learning_rate_agree() {
    let out = folder("mpi-patience");
    let path = out.to_str().unwrap();
    let flags = [
        "train",
        "--json",
        "--epochs",
        "60",
        "--patience",
        "2",
        "--lr",
        "0.2",
        "--batch",
        "64",
        "--scale-lr",
        "--out",
        path,
    ];
    let output = on(2, &flags);
    let last = summary(&output);
    assert!(lines(&output).iter().any(|line| line.get("best_epoch").is_some()), "stopped early: {last}");
    let rate = Checkpoint::read(&out.join(WEIGHTS)).unwrap().notes()["learning_rate"].parse::<f64>().unwrap();
    assert_eq!(rate, 0.4);
    assert!(!out.join("best.safetensors").exists());
    let cached = on(2, &["train", "--cache-prefix", "--out", path, "--overwrite"]);
    assert!(text(&cached).contains("--cache-prefix: expected one process"), "{}", text(&cached));
    std::fs::remove_dir_all(&out).unwrap();
}
