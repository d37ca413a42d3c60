//! Image folders from training to prediction, weights of other runs and programs, and early stopping.

use crate::program::*;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::Value;
use std::path::Path;

/// Writes `count` images of 20 x 24 pixels for each class, in noisy shades of its color.
fn write_images(folder: &Path, classes: &[(&str, [u8; 3])], count: u32) {
    for (class, color) in classes {
        let folder = folder.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..count {
            let noise = |x: u32, y: u32, channel: usize| {
                let hash = (x * 31 + y * 17 + number * 101 + channel as u32 * 7).wrapping_mul(2_654_435_761);
                (color[channel] / 2 + 40).wrapping_add((hash >> 26) as u8)
            };
            let image = RgbImage::from_fn(24, 20, |x, y| Rgb([0, 1, 2].map(|channel| noise(x, y, channel))));
            let format = if number % 2 == 0 { ImageFormat::Png } else { ImageFormat::Jpeg };
            let name = format!("{number}.{}", if number % 2 == 0 { "png" } else { "jpg" });
            image.save_with_format(folder.join(name), format).unwrap();
        }
    }
}

const COLORS: [(&str, [u8; 3]); 3] = [("red", [255, 0, 0]), ("green", [0, 255, 0]), ("blue", [0, 0, 255])];

/// Flags for small images, and a network for them.
const SMALL: [&str; 6] = ["--model", "digits", "--size", "12x12", "--batch", "8"];

fn data(folder: &Path) -> String {
    format!("folder:{}", folder.display())
}

/// The notes that a run prints at its beginning.
fn notes(printed: &[Value]) -> Vec<String> {
    printed.iter().filter_map(|line| Some(line["note"].as_str()?.to_owned())).collect()
}

fn failure(arguments: &[&str]) -> (i32, String) {
    let output = frazil(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn succeed(arguments: &[&str]) -> Vec<Value> {
    let output = frazil(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    lines(&output)
}

#[test]
fn a_folder_of_images_is_trained_on_evaluated_and_predicted() {
    let base = folder("photos");
    let (images, out) = (base.join("images"), base.join("out"));
    write_images(&images, &COLORS, 10);
    let flags = ["--data", &data(&images), "--epochs", "6", "--normalize", "half"];
    let done = train(&out, &[&SMALL[..], &flags].concat());
    assert_eq!((&done["validation_accuracy"], &done["frozen_changed"]), (&1.0.into(), &0.into()));
    assert!(done.get("test_accuracy").is_none(), "{done}");
    let head = &rows(&out)[0];
    assert_eq!(head, "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy");
    assert_eq!(note(&out, "classes").unwrap(), r#"["blue","green","red"]"#);

    let weights = out.join("weights.safetensors");
    let weights = weights.to_str().unwrap();
    // The classes of the folder are found by name, also if it has only some of them.
    let other = base.join("other");
    write_images(&other, &COLORS[..2], 3);
    let result = succeed(&["evaluate", weights, "--data", &data(&other), "--json"]).pop().unwrap();
    assert_eq!((&result["accuracy"], &result["examples"]), (&1.0.into(), &6.into()), "{result}");
    let names: Vec<_> = result["classes"].as_array().unwrap().iter().map(|class| &class["class"]).collect();
    assert_eq!(names, ["green", "red"]);
    write_images(&other, &[("pink", [255, 100, 200])], 2);
    let (code, message) = failure(&["evaluate", weights, "--data", &data(&other)]);
    assert!(code == 1 && message.contains("pink") && message.contains("blue, green, red"), "{message}");

    let paths = ["red/0.png", "blue/3.jpg"].map(|name| images.join(name).to_str().unwrap().to_owned());
    let predicted = succeed(&["predict", weights, &paths[0], &paths[1], "--json", "--top", "2"]);
    for (line, (class, path)) in predicted.iter().zip([("red", &paths[0]), ("blue", &paths[1])]) {
        assert_eq!(
            (&line["image"], &line["predictions"][0]["class"]),
            (&path.as_str().into(), &class.into())
        );
        assert_eq!(line["predictions"].as_array().unwrap().len(), 2);
        let p = line["predictions"][0]["probability"].as_f64().unwrap();
        assert!((0.5..=1.0).contains(&p), "{line}");
    }
    let text = frazil(&["predict", weights, &paths[0]]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.starts_with(&format!("{}: red 0.", paths[0])) || text.contains(": red 1.0000"), "{text}");
    // A bad image among others.
    let bad = other.join("bad.jpg");
    std::fs::write(&bad, b"\xff\xd8\xff").unwrap();
    let bad = bad.to_str().unwrap();
    let (code, message) = failure(&["predict", weights, &paths[0], bad]);
    assert!(code == 1 && message.contains("bad.jpg"), "{message}");
    let done = succeed(&["predict", weights, &paths[0], bad, "--skip-bad", "--json"]).pop().unwrap();
    assert_eq!((&done["images"], &done["skipped"]), (&1.into(), &1.into()));
    std::fs::remove_dir_all(&base).unwrap();
}

#[test]
fn augmented_runs_are_resumed_to_the_bit_with_other_threads_and_moved_images() {
    let base = folder("augmented");
    let images = base.join("images");
    write_images(&images, &COLORS, 9);
    let (whole, parts) = (base.join("whole"), base.join("parts"));
    let from = data(&images);
    let fixed =
        ["--data", &from, "--augment", "flip,crop,color", "--validation", "0.3", "--optimizer", "adam"];
    let run = |out: &Path, more: &[&str]| train(out, &[&SMALL[..], &fixed, more].concat());
    let expected = run(&whole, &["--epochs", "4", "--workers", "1"]);
    run(&parts, &["--epochs", "2", "--workers", "5"]);
    let moved = base.join("moved");
    std::fs::rename(&images, &moved).unwrap();
    let weights = parts.join("weights.safetensors");
    let resume = ["--resume", weights.to_str().unwrap(), "--epochs", "4"];
    let (code, message) = failure(&[&["train"], &resume[..]].concat());
    assert!(code == 1 && message.contains("give their place with --data"), "{message}");
    let moved_data = data(&moved);
    let got = train(&parts, &[&resume[..], &["--data", &moved_data, "--workers", "2"]].concat());
    assert_eq!((&got["digest"], &got["steps"]), (&expected["digest"], &expected["steps"]));
    assert_eq!(rows(&parts), rows(&whole));
    // Without the changes, or with another division, the run is another one.
    let resume = ["--resume", weights.to_str().unwrap(), "--epochs", "5", "--data", &moved_data];
    for (flag, value) in
        [("--augment", "flip"), ("--validation", "0.2"), ("--size", "10x10"), ("--normalize", "half")]
    {
        let (code, message) = failure(&[&["train"], &resume[..], &[flag, value]].concat());
        assert!(code == 2 && message.contains(flag), "{message}");
    }
    std::fs::remove_file(moved.join("red/0.png")).unwrap();
    let (code, message) = failure(&[&["train"], &resume[..]].concat());
    assert!(code == 2 && message.contains("digest"), "{message}");
    std::fs::remove_dir_all(&base).unwrap();
}

#[test]
fn parts_of_a_folder_lists_and_bad_images() {
    let base = folder("parts");
    let images = base.join("images");
    for (part, count) in [("train", 5), ("val", 2), ("test", 3)] {
        write_images(&images.join(part), &COLORS, count);
    }
    let from = data(&images);
    let out = base.join("out");
    let flags = [&SMALL[..], &["--epochs", "2", "--data", &from]].concat();
    let done = train(&out, &flags);
    for key in ["validation_accuracy", "test_accuracy"] {
        assert!(done[key].as_f64().is_some(), "{key}: {done}");
    }
    let result =
        succeed(&["evaluate", out.join("weights.safetensors").to_str().unwrap(), "--data", &from, "--json"]);
    assert_eq!(result.last().unwrap()["examples"], 9, "the test set");
    assert_eq!(result.last().unwrap()["accuracy"], done["test_accuracy"]);

    // A corrupt image among others.
    let jpeg = std::fs::read(images.join("train/red/1.jpg")).unwrap();
    std::fs::write(images.join("train/red/9.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    let other = base.join("bad");
    let (code, message) = failure(&[&["train", "--out", other.to_str().unwrap()], &flags[..]].concat());
    assert!(code == 1 && message.contains("9.jpg") && message.contains("--skip-bad"), "{message}");
    let output = frazil(&[&["train", "--skip-bad", "--out", other.to_str().unwrap()], &flags[..]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("skipped 1 bad image: "), "{text}");

    let list = images.join("train/list.csv");
    let lines: String = ["red", "green", "blue"]
        .iter()
        .flat_map(|class| (0..5).map(move |i| format!("{class}/{i}.{},{class}\n", ["png", "jpg"][i % 2])))
        .collect();
    std::fs::write(&list, lines).unwrap();
    let from = format!("csv:{}", list.display());
    let flags = [&SMALL[..], &["--epochs", "1", "--data", &from, "--validation", "0.4"]].concat();
    let done = train(&base.join("csv"), &flags);
    assert!(done["validation_accuracy"].as_f64().is_some(), "{done}");

    for (broken, part) in [
        ("one", "2 classes or more, got only \"red\""),
        ("none", "expected a subfolder for each class"),
        ("hollow", "expected images of the class"),
    ] {
        let root = base.join(broken);
        std::fs::create_dir_all(&root).unwrap();
        match broken {
            "one" => write_images(&root, &COLORS[..1], 2),
            "hollow" => {
                write_images(&root, &COLORS[..2], 2);
                std::fs::create_dir_all(root.join("yellow")).unwrap();
            }
            _ => {}
        }
        let (_, message) = failure(&["train", "--data", &data(&root)]);
        assert!(message.contains(part), "{broken}: {message}");
    }
    for (flags, part) in [
        (&["--size", "0x3"][..], "--size"),
        (&["--size", "big"], "expected HxW"),
        (&["--normalize", "imagenette"], "imagenet"),
        (&["--augment", "rotate"], "flip, crop and color"),
        (&["--validation", "1.5"], "--validation: expected a fraction"),
        (&["--data", "folder:"], "folder:DIR"),
        (&["--patience", "0"], "--patience"),
        (&["--normalize", "imagenet"], "--normalize: expected none, or a mean"),
        (&["--augment", "flip", "--cache-prefix"], "--cache-prefix"),
        (&["--reset", "fc*"], "--weights"),
    ] {
        let (code, message) = failure(&[&["train"], flags].concat());
        assert!(code == 2 && message.contains(part), "{flags:?}: {message}");
    }
    std::fs::remove_dir_all(&base).unwrap();
}

#[test]
fn patience_stops_and_keeps_the_best_epoch() {
    let base = folder("patience");
    let (out, long, cut) = (base.join("out"), base.join("long"), base.join("cut"));
    // So high a rate that the loss soon rises.
    let flags = ["--optimizer", "adam", "--lr", "0.05", "--batch", "256", "--validation", "0.2"];
    let all = |out: &Path, more: &[&str]| {
        succeed(&[&["train", "--json", "--out", out.to_str().unwrap()], &flags[..], more].concat())
    };
    let printed = all(&out, &["--epochs", "60", "--patience", "2"]);
    let stopped = printed.iter().find(|line| line.get("stopped").is_some()).expect("an early stop");
    let best = stopped["best_epoch"].as_u64().unwrap();
    assert_eq!(stopped["stopped"].as_u64().unwrap(), best + 2);
    let losses: Vec<_> = printed.iter().filter_map(|line| line["validation_loss"].as_f64()).collect();
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!((losses[best as usize - 1], losses.len() as u64), (lowest, best + 2));
    assert_eq!(note(&out, "epoch").unwrap(), best.to_string());
    assert!(!out.join("best.safetensors").exists());
    // The weights are those of the same run with that number of epochs.
    let same = all(&long, &["--epochs", &best.to_string()]).pop().unwrap();
    let done = printed.last().unwrap();
    assert_eq!((&done["digest"], &done["steps"]), (&same["digest"], &same["steps"]));
    assert!(done["test_accuracy"].as_f64().is_some(), "{done}");
    // A run that ends before it stops, and is resumed, stops likewise.
    all(&cut, &["--epochs", &best.to_string(), "--patience", "2"]);
    let weights = cut.join("weights.safetensors");
    let resumed = succeed(&["train", "--json", "--resume", weights.to_str().unwrap(), "--epochs", "60"]);
    let stopped_again = resumed.iter().find(|line| line.get("stopped").is_some());
    assert_eq!(stopped_again, Some(stopped));
    assert_eq!(resumed.last().unwrap()["digest"], done["digest"]);
    std::fs::remove_dir_all(&base).unwrap();
}

#[test]
fn a_new_run_begins_with_the_weights_of_another() {
    let base = folder("weights");
    let (first, out) = (base.join("first"), base.join("out"));
    let images = base.join("images");
    write_images(&images, &COLORS, 6);
    let from = data(&images);
    train(&first, &[&SMALL[..], &["--data", &from, "--epochs", "1", "--normalize", "half"]].concat());
    let file = first.join("weights.safetensors");
    let weights = file.to_str().unwrap();
    let begin = |more: &[&str]| {
        frazil(
            &[&["train", "--json", "--out", out.to_str().unwrap(), "--epochs", "1", "--batch", "8"], more]
                .concat(),
        )
    };
    // The same classes: all parameters, the size and the normalization are those of the file, and nothing is frozen.
    let output = begin(&["--data", &from, "--weights", weights]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = lines(&output);
    assert!(notes(&printed).iter().any(|note| note.starts_with("8 parameters from")), "{printed:?}");
    assert_eq!(printed.last().unwrap()["frozen_total"], 0);
    assert_eq!(note(&out, "normalize"), note(&first, "normalize"));
    let read = |out: &Path| frazil::checkpoint::Checkpoint::read(&out.join("weights.safetensors")).unwrap();
    assert_eq!(read(&out).model().unwrap().unwrap().example_shape(), [12, 12, 3]);
    // Frozen at the values of the file.
    let frozen = ["--freeze", "conv*=all", "--overwrite"];
    let output = begin(&[&["--data", &from, "--weights", weights], &frozen[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for path in ["conv1.kernel", "conv2.kernel", "conv2.bias"] {
        assert_eq!(
            read(&out).tensor(path).unwrap().bits(),
            read(&first).tensor(path).unwrap().bits(),
            "{path}"
        );
    }
    // The file is not needed to resume.
    let kept = base.join("kept.safetensors");
    std::fs::rename(&file, &kept).unwrap();
    let resumed = out.join("weights.safetensors");
    let resumed = ["train", "--json", "--resume", resumed.to_str().unwrap(), "--epochs", "2"];
    assert_eq!(succeed(&resumed).last().unwrap()["frozen_changed"], 0);
    let weights = kept.to_str().unwrap();
    // Other classes: only on request, and said.
    std::fs::remove_dir_all(images.join("blue")).unwrap();
    let other = ["--data", &from, "--weights", weights, "--overwrite"];
    let output = begin(&other);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    for part in ["fc2.kernel", "expected [64, 2], got [64, 3]", "--reset"] {
        assert!(message.contains(part), "{message}");
    }
    let output = begin(&[&other[..], &["--reset", "fc2.*", "--lr", "0"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = notes(&lines(&output));
    assert!(said.contains(&"initialized by --reset: fc2.kernel, fc2.bias".to_owned()), "{said:?}");
    let old = frazil::checkpoint::Checkpoint::read(&kept).unwrap();
    assert_eq!(read(&out).tensor("fc1.kernel").unwrap().bits(), old.tensor("fc1.kernel").unwrap().bits());
    assert_eq!(read(&out).tensor("fc2.kernel").unwrap().shape(), [64, 2]);
    // The files of other programs, with other names.
    let torch = base.join("net.safetensors");
    succeed(&["export", weights, "--to", "torch", "-o", torch.to_str().unwrap(), "--json"]);
    let onnx = base.join("net.onnx");
    succeed(&["export", weights, "--to", "onnx", "-o", onnx.to_str().unwrap(), "--json"]);
    let npz = base.join("net.npz");
    succeed(&["export", weights, "--to", "npz", "-o", npz.to_str().unwrap(), "--json"]);
    for (file, model) in [(&torch, true), (&onnx, false), (&npz, true)] {
        let named: &[&str] = if model { &SMALL[..4] } else { &[] };
        let flags = [
            "--data",
            &from,
            "--weights",
            file.to_str().unwrap(),
            "--overwrite",
            "--reset",
            "fc2*",
            "--lr",
            "0",
        ];
        let output = begin(&[&flags[..], named].concat());
        assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
        let kernel = read(&out).tensor("fc1.kernel").unwrap().bits().to_vec();
        assert!(kernel == old.tensor("fc1.kernel").unwrap().bits(), "{}", file.display());
    }
    for (flags, part) in [
        (&["--weights", torch.to_str().unwrap()][..], "name the model with --model"),
        (&["--weights", "nowhere.safetensors"], "nowhere.safetensors"),
        (&["--weights", weights, "--reset", "fc3*"], "--reset: expected a glob that matches"),
        (
            &[
                "--weights",
                torch.to_str().unwrap(),
                "--model",
                "digits",
                "--size",
                "12x12",
                "--reset",
                "fc2*",
                "--names",
                "fc1",
            ],
            "LAYER=NAME",
        ),
        (
            &[
                "--weights",
                torch.to_str().unwrap(),
                "--model",
                "digits",
                "--size",
                "12x12",
                "--reset",
                "fc2*",
                "--names",
                "fc1=head",
            ],
            "head.weight",
        ),
        (&["--weights", weights, "--size", "16x16"], "--size"),
    ] {
        let output = begin(&[&["--data", &from, "--overwrite"], flags].concat());
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains(part), "{flags:?}: {message}");
    }
    std::fs::remove_dir_all(&base).unwrap();
}
