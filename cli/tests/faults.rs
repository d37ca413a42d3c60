//! Disturbs the writing of a checkpoint: full disks, limits and errors of each call, and kills at each step
//! and at random times. The file is always the old one or the new one, and a resumed run ends with the bits of
//! an undisturbed one.

use crate::program::*;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const WEIGHTS: &str = "weights.safetensors";

/// Arguments of a run of `epochs` epochs that writes a checkpoint after each.
fn arguments(out: &Path, epochs: &str) -> Vec<String> {
    let fixed = ["train", "--json", "--save-every", "1", "--batch", "128", "--epochs", epochs, "--out"];
    fixed.iter().map(|text| (*text).to_owned()).chain([out.to_str().unwrap().to_owned()]).collect()
}

/// Trains for one epoch, undisturbed; returns the bytes of the checkpoint.
fn first_epoch(out: &Path) -> Vec<u8> {
    let output = Command::new(PROGRAM).args(arguments(out, "1")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(out.join(WEIGHTS)).unwrap()
}

/// Resumes from the checkpoint in `out`, up to `epochs` epochs.
fn resume(out: &Path, epochs: &str) -> Command {
    let mut program = Command::new(PROGRAM);
    program.args(arguments(out, epochs)).arg("--resume").arg(out.join(WEIGHTS));
    program
}

/// The digest that a run prints at its end.
fn digest(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lines(output).pop().unwrap()["digest"].as_str().unwrap().to_owned()
}

/// Names of the files of a run's folder, except those that every run has.
fn left_behind(out: &Path) -> Vec<String> {
    let names = std::fs::read_dir(out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| ![WEIGHTS, "weights.svg", "metrics.csv", ".lock"].contains(&name.as_str())).collect()
}

/// Asserts that a failed save changed nothing, left nothing behind, and names the checkpoint and what to try.
fn assert_named(output: &Output, out: &Path, old: &[u8], advice: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let error = text.lines().find(|line| line.starts_with("frazil: ")).unwrap_or_else(|| panic!("{text}"));
    assert!(error.contains(&out.join(WEIGHTS).display().to_string()) && error.contains(advice), "{error}");
    assert!(std::fs::read(out.join(WEIGHTS)).unwrap() == old, "the old file is unchanged");
    assert_eq!(left_behind(out), [] as [String; 0]);
}

/// Compiles fault.c; `None`, with a message, where that is impossible.
fn preload(test: &str) -> Option<PathBuf> {
    if !cfg!(target_os = "linux") {
        skip(test, "needs LD_PRELOAD and /proc");
        return None;
    }
    let library = std::env::temp_dir().join(format!("frazil-fault-{}-{test}.so", std::process::id()));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fault.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).output();
    match compiled {
        Ok(output) if output.status.success() => Some(library),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            skip(test, &format!("cc: {error}"));
            None
        }
    }
}

/// Adds the fault to the environment of a run in `out`.
fn disturb(program: &mut Command, library: &Path, out: &Path, call: &str, number: u32, action: &str) {
    program.env("LD_PRELOAD", library).env("FAULT_FOLDER", out.canonicalize().unwrap());
    program.env("FAULT_CALL", call).env("FAULT_NUMBER", number.to_string()).env("FAULT_ACTION", action);
}

#[test]
fn error_of_every_call_of_a_save_leaves_the_old_file_and_nothing_else() {
    let Some(library) = preload("errors") else { return };
    let out = folder("fault-errors");
    let old = first_epoch(&out);
    let (no_space, quota, io) = ("error 28", "error 122", "error 5");
    for (call, action, advice) in [
        ("write", no_space, "free some space"),
        ("write", quota, "free some space"),
        ("write", io, "Input/output error"),
        ("fsync", no_space, "free some space"),
        ("fsync", io, "Input/output error"),
    ] {
        let mut program = resume(&out, "2");
        disturb(&mut program, &library, &out, call, 1, action);
        assert_named(&program.output().unwrap(), &out, &old, advice);
    }
    // The disturbed runs did not harm the folder.
    assert!(resume(&out, "2").output().unwrap().status.success());
    std::fs::remove_dir_all(&out).unwrap();
    std::fs::remove_file(&library).unwrap();
}

/// The limit of a process on the size of its files, where the operating system refuses the write by itself.
#[cfg(unix)]
#[test]
fn file_larger_than_the_limit_of_the_process_is_a_named_error() {
    let out = folder("fault-limit");
    let old = first_epoch(&out);
    // A unit is 512 or 1024 bytes. Without the trap, the signal would end the process.
    assert!(old.len() > 200 * 1024);
    let run = |trap: &str| {
        let script = format!("{trap} ulimit -f 100 && exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, PROGRAM]).args(arguments(&out, "2"));
        shell.arg("--resume").arg(out.join(WEIGHTS)).output().unwrap()
    };
    assert_named(&run("trap '' XFSZ;"), &out, &old, "ulimit -f");
    // Killed in the middle of the write: only the temporary file is left.
    let killed = run("");
    assert_eq!(killed.status.code(), None, "{}", String::from_utf8_lossy(&killed.stderr));
    assert!(std::fs::read(out.join(WEIGHTS)).unwrap() == old);
    assert!(left_behind(&out).iter().all(|name| name.starts_with(".frazil-")), "{:?}", left_behind(&out));
    assert!(resume(&out, "2").output().unwrap().status.success());
    std::fs::remove_dir_all(&out).unwrap();
}

/// A file system that is full, in a mount namespace of its own.
#[cfg(unix)]
#[test]
fn full_disk_is_a_named_error() {
    let out = folder("fault-full");
    let old = first_epoch(&out);
    std::fs::remove_file(out.join("weights.svg")).unwrap();
    // The file system has room for the old file, but not for the new one next to it.
    let size = (old.len() + 60_000).div_ceil(4096) * 4096;
    let script = format!(
        "mount -t tmpfs -o size={size} none \"$1\" || exit 77
         cp \"$2\"/* \"$1\" && shift 2 && \"$0\" \"$@\"; code=$?; ls -A \"$OUT\" | grep -v -e '^metrics.csv$' -e '^.lock$'
         cmp \"$OUT\"/{WEIGHTS} \"$OLD\"/{WEIGHTS} && exit $code"
    );
    let mounted = folder("fault-mounted");
    std::fs::create_dir_all(&mounted).unwrap();
    let mut shell = Command::new("unshare");
    shell.args(["-rm", "sh", "-c", &script, PROGRAM]).arg(&mounted).arg(&out);
    shell.args(arguments(&mounted, "2")).arg("--resume").arg(mounted.join(WEIGHTS));
    let output = match shell.env("OUT", &mounted).env("OLD", &out).output() {
        Ok(output) if output.status.code() != Some(77) && !output.stderr.starts_with(b"unshare") => output,
        Ok(output) => return skip("full_disk", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => return skip("full_disk", &format!("unshare: {error}")),
    };
    let (text, stdout) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(1), "{text}{stdout}");
    let path = mounted.join(WEIGHTS).display().to_string();
    assert!(text.contains(&format!("frazil: {path}: ")) && text.contains("free some space"), "{text}");
    // The last line lists the folder: nothing but the old file.
    assert_eq!(stdout.lines().last(), Some(WEIGHTS), "{stdout}");
    [out, mounted].iter().for_each(|f| std::fs::remove_dir_all(f).unwrap());
}

/// Ends the program at each step of a save, then at random times for a while; each time, the file is complete,
/// and the run that is resumed from it ends with the same bits.
#[test]
fn run_killed_inside_a_save_resumes_to_the_bit() {
    let undisturbed = folder("kill-none");
    let begun = Instant::now();
    let output = Command::new(PROGRAM).args(arguments(&undisturbed, "3")).output().unwrap();
    let whole = begun.elapsed().as_millis() as u64;
    let expected = (digest(&output), rows(&undisturbed));
    std::fs::remove_dir_all(&undisturbed).unwrap();
    let out = folder("kill");
    let finish = |what: &str| {
        let inspected = frazil(&["inspect", out.join(WEIGHTS).to_str().unwrap()]);
        assert!(inspected.status.success(), "{what}: {}", String::from_utf8_lossy(&inspected.stderr));
        let resumed = resume(&out, "3").output().unwrap();
        assert_eq!((digest(&resumed), rows(&out)), expected, "{what}");
        std::fs::remove_dir_all(&out).unwrap();
    };
    let mut kills = 0;
    if let Some(library) = preload("kills") {
        // The calls 3 and 4 flush file and folder of the second save; the rename is between them.
        let points =
            [("write", 2, "kill"), ("fsync", 3, "kill"), ("fsync", 3, "killed"), ("fsync", 4, "kill")];
        for (call, number, action) in points {
            std::fs::create_dir_all(&out).unwrap();
            let mut program = Command::new(PROGRAM);
            program.args(arguments(&out, "3"));
            disturb(&mut program, &library, &out, call, number, action);
            let output = program.output().unwrap();
            assert_eq!(output.status.code(), None, "{}", String::from_utf8_lossy(&output.stderr));
            kills += 1;
            finish(&format!("{action} at {call} {number}"));
        }
        std::fs::remove_file(&library).unwrap();
    }
    let (begun, mut random) = (Instant::now(), Random(soak_seed()));
    // Number of kills by the epochs that the checkpoint contains; 3 are the whole run.
    let mut after = [0; 4];
    // A slow machine goes on until a run was killed between its first and last checkpoint.
    while begun.elapsed() < soak_time(8) || (after[1] + after[2] == 0 && after[3] < 20) {
        std::fs::create_dir_all(&out).unwrap();
        let mut program = Command::new(PROGRAM);
        program.args(arguments(&out, "3")).stdout(std::process::Stdio::null());
        let mut child = program.stderr(std::process::Stdio::null()).spawn().unwrap();
        while !out.join(WEIGHTS).exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Mostly in the second or third epoch.
        std::thread::sleep(Duration::from_millis(random.below(1 + whole / 2)));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        let inspected = frazil(&["inspect", "--json", out.join(WEIGHTS).to_str().unwrap()]);
        let last = lines(&inspected).pop().unwrap();
        let epoch = last["notes"]["note.epoch"].as_str().unwrap().parse::<usize>().unwrap();
        after[epoch] += 1;
        if epoch == 3 {
            // Nothing is left to resume.
            assert_eq!(last["digest"].as_str(), Some(expected.0.as_str()));
            std::fs::remove_dir_all(&out).unwrap();
        } else {
            finish(&format!("killed after epoch {epoch}"));
        }
    }
    assert!(after[1] + after[2] > 0, "no run was killed between its first and last checkpoint: {after:?}");
    let [_, one, two, three] = after;
    say(&format!(
        "soak kills: {kills} runs killed, all ended with the same bits; at random times: {one} after epoch 1, {two} after \
         epoch 2, {three} after epoch 3 of 3"
    ));
}

/// A small generator of random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
