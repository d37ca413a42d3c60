//! `frazil train` on data sets with other numbers of classes, image sizes and channels, and with paths that
//! are not UTF-8.

use crate::program::*;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

fn idx_file(extents: &[u32], values: Vec<u8>) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, extents.len() as u8];
    extents.iter().for_each(|extent| bytes.extend(extent.to_be_bytes()));
    [bytes, values].concat()
}

/// Writes a set of 40 training and 20 test images of this shape, whose labels are 1 to `largest`.
fn write(folder: &Path, prefix: &str, image: &[u32], largest: u8) {
    std::fs::create_dir_all(folder).unwrap();
    for (part, count) in [("train", 40), ("test", 20)] {
        let extents = [&[count], image].concat();
        let bytes = (0..extents.iter().product()).map(|i: u32| (i * i % 251) as u8).collect();
        let name = format!("{prefix}{part}-images-idx{}-ubyte", extents.len());
        std::fs::write(folder.join(name), idx_file(&extents, bytes)).unwrap();
        let labels = (0..count).map(|i| 1 + (i % u32::from(largest)) as u8).collect();
        std::fs::write(folder.join(format!("{prefix}{part}-labels-idx1-ubyte")), idx_file(&[count], labels))
            .unwrap();
    }
}

fn train_with(arguments: &[&OsStr]) -> Output {
    Command::new(PROGRAM).args(["train", "--json", "--batch", "20"]).args(arguments).output().unwrap()
}

#[test]
fn model_fits_classes_size_and_channels_of_the_data() {
    let data = folder("sets");
    let out = data.join("out");
    write(&data, "emnist-letters-", &[28, 28], 26);
    write(&data, "small-", &[12, 10], 2);
    write(&data, "colour-", &[16, 16, 3], 40);
    for (name, model, outputs) in [
        ("emnist-letters", "lenet28", 27),
        ("small", "digits", 3),
        ("colour", "cifar", 41),
        ("colour", "resnet20", 41),
    ] {
        let set = format!("idx:{}/{name}", data.display());
        let arguments = ["--data", &set, "--model", model, "--epochs", "1", "--out", out.to_str().unwrap()];
        let output = train_with(&arguments.map(OsStr::new));
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let bytes = std::fs::read(out.join("weights.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let bias = tensors.tensor("fc2.bias").or(tensors.tensor("fc.bias")).unwrap();
        assert_eq!(bias.shape(), [outputs], "{name}");
        std::fs::remove_dir_all(&out).unwrap();
    }
    write(&data, "tiny-", &[3, 3], 2);
    let set = format!("idx:{}/tiny", data.display());
    let output = train_with(&["--data", &set, "--model", "cifar"].map(OsStr::new));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--model: expected a model for images of [3, 3, 1]"), "{text}");
    assert!(text.contains("cifar, which is none: max_pool"), "{text}");
    std::fs::remove_dir_all(&data).unwrap();
}

/// A path on Unix is bytes; these are no UTF-8.
#[cfg(unix)]
#[test]
fn paths_that_are_not_utf8_work_in_every_flag_and_after_a_resume() {
    use safetensors::tensor::{Dtype, TensorView};
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let base = folder("bytes").join(OsStr::from_bytes(b"d\xff\xfe-\xe4\xf6"));
    if let Err(error) = std::fs::create_dir_all(&base) {
        // APFS refuses such names.
        return skip("paths_that_are_not_utf8", &error.to_string());
    }
    write(&base, "", &[8, 8], 9);
    let mask = base.join(OsStr::from_bytes(b"m\xc3(.safetensors"));
    let view = TensorView::new(Dtype::U8, vec![16], &[1; 16]).unwrap();
    std::fs::write(&mask, safetensors::serialize([("m", view)], None).unwrap()).unwrap();
    let (out, weights) = (base.join("out"), base.join("out/weights.safetensors"));
    let joined = |parts: &[&[u8]]| OsString::from_vec(parts.concat());
    let data = joined(&[b"idx:", base.as_os_str().as_bytes()]);
    let freeze = joined(&[b"conv1.bias=file:", mask.as_os_str().as_bytes(), b":m"]);
    let [data, freeze] = [&data, &freeze].map(OsString::as_os_str);
    let word = OsStr::new;
    let fixed = [word("--data"), data, word("--model"), word("digits"), word("--freeze"), freeze];
    let first = [&fixed[..], &[word("--epochs"), word("1"), word("--out"), out.as_os_str()]].concat();
    let output = train_with(&first);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines(&output).pop().unwrap()["frozen_total"], 16);
    // The stored flags are those bytes; the same flag given again is equal to them, and another one is not.
    let resumed = [word("--epochs"), word("2"), word("--resume"), weights.as_os_str()];
    let output = train_with(&[&resumed[..], &[word("--freeze"), freeze]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let done = lines(&output).pop().unwrap();
    assert_eq!((&done["frozen_total"], &done["steps"]), (&16.into(), &4.into()));
    let missing = joined(&[b"idx:", base.as_os_str().as_bytes(), b"\xfd"]);
    let output = train_with(&[word("--data"), missing.as_os_str()]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("found no such file"));
    std::fs::remove_dir_all(folder("bytes")).unwrap();
}

#[test]
fn zero_is_blamed_on_its_own_flag() {
    for flag in ["--save-every", "--epochs", "--batch"] {
        let output = frazil(&["train", flag, "0", "--out", folder("zero").to_str().unwrap()]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(&format!("frazil: {flag}: expected 1 or more, got 0")), "{text}");
    }
}
