//! Runs the commands of docs/guide.md that are marked to be run, from its own text.

use crate::program::{folder, skip};
use std::path::Path;
use std::process::Command;

/// The comment before a block of commands that is run.
const MARK: &str = "<!-- Run by cli/tests/guide.rs. -->";

/// Returns the marked blocks of a document.
fn marked_blocks(text: &str) -> Vec<&str> {
    let of = |text| {
        let (_, rest) = str::split_once(text, "```sh\n")?;
        rest.split_once("\n```").map(|(block, _)| block)
    };
    text.split(MARK).skip(1).filter_map(of).collect()
}

#[test]
#[cfg(unix)]
fn commands_of_the_guide_run_and_give_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let guide = std::fs::read_to_string(root.join("docs/guide.md")).unwrap();
    let blocks = marked_blocks(&guide);
    assert_eq!(blocks.len(), 1);
    if Command::new("python3").arg("--version").output().is_err() {
        return skip("commands of the guide", "python3 is not installed");
    }
    let out = folder("guide");
    std::fs::create_dir_all(&out).unwrap();
    for name in ["scripts", "src", "tests"] {
        std::os::unix::fs::symlink(root.join(name), out.join(name)).unwrap();
    }
    let program = Path::new(env!("CARGO_BIN_EXE_frazil")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let run = Command::new("bash")
        .args(["-euxo", "pipefail", "-c", blocks[0]])
        .current_dir(&out)
        .env("PATH", format!("{}:{path}", program.display()))
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{stdout}\n{stderr}");
    // What the text around the commands says.
    for part in [
        "wrote 600 images of 10 classes",
        "0 of 34230 frozen elements changed",
        "accuracy 0.9",
        "mirrored.onnx",
    ] {
        assert!(stdout.contains(part), "{part}:\n{stdout}\n{stderr}");
    }
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn marked_blocks_are_found() {
    let text = format!("a\n```sh\nno\n```\n{MARK}\n```sh\none\ntwo\n```\nb\n{MARK}\n\n```sh\nthree\n```\n");
    assert_eq!(marked_blocks(&text), ["one\ntwo", "three"]);
}
