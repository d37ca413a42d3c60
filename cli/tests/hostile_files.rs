//! Files that claim sizes beyond the memory of the process, and names that would change the state of a
//! terminal: each is a named error or printed safely, and the program never ends by a signal.

use crate::program::*;
use frazil::Mask;
use frazil::checkpoint::{Checkpoint, Tensor};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the program with at most this much address space.
fn in_memory(mib: u64, arguments: &[&str]) -> Option<Output> {
    if !cfg!(target_os = "linux") {
        skip("in_memory", "this system does not limit the address space of a process");
        return None;
    }
    let script = format!("ulimit -v {} && exec \"$0\" \"$@\"", 1024 * mib);
    Some(Command::new("sh").args(["-c", &script, PROGRAM]).args(arguments).output().unwrap())
}

/// Asserts that the program ends with a message about memory that names the file.
fn assert_refused(mib: u64, arguments: &[&str], file: &Path) {
    let Some(output) = in_memory(mib, arguments) else { return };
    let text = String::from_utf8_lossy(&output.stderr);
    // Not a signal; 2 where the file is named by a flag.
    assert!(matches!(output.status.code(), Some(1 | 2)), "{:?} {text}", output.status);
    let named = text.contains(&file.display().to_string()) && text.contains("bytes of host memory");
    assert!(named, "{text}");
}

/// A file of this size that takes no space on the disk.
fn sparse(path: &Path, head: &[u8], bytes: u64) {
    let mut file = File::create(path).unwrap();
    file.write_all(head).unwrap();
    file.set_len(bytes).unwrap();
}

/// The header of an IDX file of bytes.
fn idx_header(extents: &[u32]) -> Vec<u8> {
    let mut header = vec![0, 0, 8, extents.len() as u8];
    extents.iter().for_each(|extent| header.extend(extent.to_be_bytes()));
    header
}

#[test]
fn data_larger_than_memory_is_a_named_error() {
    let data = folder("hostile-data");
    std::fs::create_dir_all(&data).unwrap();
    let train = |kind: &str| format!("{kind}:{}", data.display());
    // A gzip file of 2 MB may contain 2 GB, which become 8.6 GB of f32: together 10.7 GB.
    let images = data.join("train-images-idx3-ubyte.gz");
    let extents = [1 << 21, 32, 31];
    let mut stream = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    stream.write_all(&idx_header(&extents)).unwrap();
    stream.write_all(&vec![0; 1 << 20]).unwrap();
    sparse(&images, &stream.finish().unwrap(), 2_100_000);
    sparse(&data.join("train-labels-idx1-ubyte"), &idx_header(&[1 << 21]), 8 + (1 << 21));
    assert_refused(1024, &["train", "--data", &train("idx")], &images);
    std::fs::remove_file(&images).unwrap();
    // A sparse file whose bytes fit, but not its features.
    let images = data.join("train-images-idx3-ubyte");
    sparse(&images, &idx_header(&[1 << 18, 32, 32]), 16 + (1 << 28));
    sparse(&data.join("train-labels-idx1-ubyte"), &idx_header(&[1 << 18]), 8 + (1 << 18));
    assert_refused(1024, &["train", "--data", &train("idx")], &images);
    for records in [100_000, 2_000_000] {
        for number in 1..=5 {
            sparse(&data.join(format!("data_batch_{number}.bin")), &[], 3073 * records);
        }
        assert_refused(1024, &["train", "--data", &train("cifar10")], &data.join("data_batch_1.bin"));
    }
    std::fs::remove_dir_all(&data).unwrap();
}

#[test]
fn checkpoint_larger_than_memory_is_a_named_error() {
    let out = folder("hostile-checkpoint");
    std::fs::create_dir_all(&out).unwrap();
    let file = out.join("large.safetensors");
    let size = 2u64 << 30;
    let header = format!(r#"{{"t":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{size}]}}}}"#, size / 4);
    let head = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    sparse(&file, &head, head.len() as u64 + size);
    let (path, other) = (file.to_str().unwrap(), out.join("small.safetensors"));
    let mut small = Checkpoint::default();
    small.push("t".to_owned(), Tensor::f32_bits(vec![1], vec![0]));
    small.write(&other).unwrap();
    let freeze = format!("conv1.kernel=file:{path}:t");
    // 1 GiB has no room for the file; 3 GiB has, but not for the tensor in it.
    for mib in [1024, 3072] {
        assert_refused(mib, &["inspect", path], &file);
        assert_refused(mib, &["inspect", other.to_str().unwrap(), "--against", path], &file);
        assert_refused(mib, &["draw", path, "--out", "-"], &file);
        assert_refused(mib, &["train", "--resume", path], &file);
    }
    // A software adapter's driver needs some memory, too.
    assert_refused(2048, &["train", "--freeze", &freeze, "--out", out.to_str().unwrap()], &file);
    std::fs::remove_dir_all(&out).unwrap();
}

#[test]
fn names_with_escape_sequences_and_line_breaks_are_printed_escaped() {
    let out = folder("hostile-names");
    std::fs::create_dir_all(&out).unwrap();
    let name = "a\u{1b}[31m\r\n\u{7}\u{9b}2Jb";
    let escaped = r"a\u{1b}[31m\r\n\u{7}\u{9b}2Jb";
    let own_name = "k\u{1b}]0;title\u{7}.kernel";
    let own_escaped = r"k\u{1b}]0;title\u{7}.kernel";
    let (own, changed, foreign) = (out.join("own"), out.join("changed"), out.join("foreign"));
    let write = |path: &Path, value: u32, shape: Vec<usize>| {
        let mut checkpoint = Checkpoint::default();
        checkpoint.note("parameter.0", own_name);
        checkpoint.note("parameter.1", "second");
        checkpoint.push(own_name.to_owned(), Tensor::f32_bits(shape.clone(), vec![value; 2]));
        checkpoint.push("second".to_owned(), Tensor::f32_bits(vec![1, 1, 1, 10_001], vec![0; 10_001]));
        let mask = Mask::all(2).unwrap().words().to_vec();
        checkpoint.push(format!("mask.{own_name}"), Tensor::u32(vec![1], mask));
        checkpoint.write(path).unwrap();
    };
    write(&own, 1, vec![1, 1, 1, 2]);
    write(&changed, 2, vec![1, 1, 1, 2]);
    let view = |shape: &[usize], bytes: &'static [u8]| {
        use safetensors::tensor::{Dtype, TensorView};
        TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()
    };
    let half = safetensors::tensor::TensorView::new(safetensors::Dtype::F16, vec![2], &[0; 4]).unwrap();
    let views = [(name, view(&[1, 1, 1, 2], &[0; 8])), ("other\u{1b}[1m", half)];
    std::fs::write(&foreign, safetensors::serialize(views, None).unwrap()).unwrap();
    let flat = out.join("flat");
    let views = [(name, view(&[2], &[0; 8]))];
    std::fs::write(&flat, safetensors::serialize(views, None).unwrap()).unwrap();
    // A tensor whose offsets are wrong, which the message of the safetensors library names.
    let broken = out.join("broken");
    let header = r#"{"a\u001b[31m\n":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 12]].concat();
    std::fs::write(&broken, bytes).unwrap();

    let shape = out.join("shape");
    write(&shape, 1, vec![2]);
    let [own, changed, foreign, flat, broken, shape] =
        [&own, &changed, &foreign, &flat, &broken, &shape].map(|path| path.to_str().unwrap());
    let freeze = |tensor: &str| format!("conv1.kernel=file:{foreign}:{tensor}");
    let runs: Vec<(Vec<&str>, &str)> = vec![
        (vec!["inspect", own], own_escaped),
        (vec!["inspect", foreign], escaped),
        (vec!["inspect", foreign], r"other\u{1b}[1m"),
        (vec!["inspect", own, "--against", changed], own_escaped),
        (vec!["inspect", own, "--against", shape], own_escaped),
        (vec!["inspect", own, "--against", foreign], own_escaped),
        (vec!["inspect", broken], r"\u{1b}[31m"),
        (vec!["draw", own, "--out", "-"], own_escaped),
        (vec!["draw", own], own_escaped),
        (vec!["draw", foreign, "--out", "-"], escaped),
        (vec!["draw", flat], escaped),
    ];
    let mut outputs: Vec<_> = runs.iter().map(|(run, part)| (frazil(run), *part)).collect();
    let [missing, named] = [freeze("x\u{1b}y"), freeze(name)];
    outputs.push((frazil(&["train", "--freeze", &missing, "--out", out.to_str().unwrap()]), r"x\u{1b}y"));
    outputs.push((frazil(&["train", "--freeze", &named, "--out", out.to_str().unwrap()]), escaped));
    outputs.push((frazil(&["train", "--resume", foreign]), "foreign"));
    for (output, part) in outputs {
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(part), "{part:?} in {text:?}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("\u{7}") || line.starts_with('b')), "{text:?}");
    }
    let svg = std::fs::read_to_string(Path::new(own).with_extension("svg")).unwrap();
    assert!(svg.contains(own_escaped) && !svg.contains(|c: char| c.is_control() && c != '\n'), "{svg:?}");
    std::fs::remove_dir_all(&out).unwrap();
}
