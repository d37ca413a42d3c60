//! Tests of the readers of data set files (IDX and CIFAR-10), with valid and damaged files.

use flate2::{Compression, write::GzEncoder};
use frazil::Error;
use frazil::data::{cifar10, cifar100, idx, idx_in_memory};
use std::io::Write;
use std::path::PathBuf;

/// Temporary folder of one test, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("frazil-data-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(name), bytes).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.0.join(name)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns the file name, position and reason of an expected data error. Panics for any other result.
#[track_caller]
fn data_error<T: std::fmt::Debug>(result: frazil::Result<T>) -> (String, String, String) {
    match result {
        Err(Error::Data { path, place, why, .. }) => {
            (path.file_name().unwrap().to_string_lossy().into_owned(), place, why)
        }
        other => panic!("expected a data error, got {other:?}"),
    }
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn idx_file(extents: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, extents.len() as u8];
    extents.iter().for_each(|extent| bytes.extend(extent.to_be_bytes()));
    bytes.extend(values);
    bytes
}

/// Returns an IDX file of `count` images of 3 x 2 pixels with the values 0, 1, 2 and so on.
fn images(count: u32) -> Vec<u8> {
    idx_file(&[count, 3, 2], &(0..count * 6).map(|i| i as u8).collect::<Vec<_>>())
}

/// Writes an MNIST-like training set of three images and a test set of two.
fn write_mnist(folder: &Folder) {
    folder.write("train-images-idx3-ubyte", &images(3));
    folder.write("train-labels-idx1-ubyte", &idx_file(&[3], &[9, 0, 4]));
    folder.write("t10k-images-idx3-ubyte", &images(2));
    folder.write("t10k-labels-idx1-ubyte", &idx_file(&[2], &[1, 2]));
}

#[test]
fn idx_reads_plain_and_gzipped_files_with_hyphen_or_dot() {
    let folder = Folder::new("idx");
    write_mnist(&folder);
    let (train, test) = idx(&folder.0).unwrap();
    assert_eq!((train.len(), test.len(), train.classes()), (3, 2, 10));
    assert_eq!(train.example_shape(), [3, 2, 1]);
    assert_eq!(train.labels(), [9, 0, 4]);
    let scaled: Vec<f32> = (0..18).map(|i| i as f32 / 255.0).collect();
    assert_eq!(train.features(), scaled);
    for name in ["train-images", "train-labels", "t10k-images", "t10k-labels"] {
        let axes = if name.ends_with("images") { 3 } else { 1 };
        let plain = format!("{name}-idx{axes}-ubyte");
        let bytes = std::fs::read(folder.0.join(&plain)).unwrap();
        folder.remove(&plain);
        // Writes the same content under the other three accepted forms of the file name. Both test files have
        // the last form.
        match name {
            "train-images" => folder.write(&format!("{name}.idx{axes}-ubyte"), &bytes),
            "train-labels" => folder.write(&format!("{name}.idx{axes}-ubyte.gz"), &gz(&bytes)),
            _ => folder.write(&format!("{plain}.gz"), &gz(&bytes)),
        }
    }
    assert_eq!(idx(&folder.0).unwrap(), (train, test));
}

#[test]
fn idx_counts_classes_and_reads_prefixes_test_and_channels() {
    let folder = Folder::new("idx-emnist");
    // The letters of EMNIST have the labels 1 to 26, and file names that begin with the name of the set.
    folder.write("emnist-letters-train-images-idx3-ubyte", &images(3));
    folder.write("emnist-letters-train-labels-idx1-ubyte", &idx_file(&[3], &[1, 26, 4]));
    folder.write("emnist-letters-test-images-idx3-ubyte.gz", &gz(&images(1)));
    folder.write("emnist-letters-test-labels-idx1-ubyte.gz", &gz(&idx_file(&[1], &[2])));
    let (train, test) = idx(&folder.0.join("emnist-letters")).unwrap();
    assert_eq!((train.classes(), test.classes(), test.labels()), (27, 27, &[2][..]));
    let (_, _, why) = data_error(idx(&folder.0));
    assert!(why.contains("expected train-images-idx3-ubyte") && why.contains("FOLDER/WORD"), "{why}");
    let (_, _, why) = data_error(idx(&folder.0.join("emnist-digits")));
    assert!(why.contains("expected emnist-digits-train-images-idx3-ubyte"), "{why}");

    let folder = Folder::new("idx-channels");
    let colours = |count: u32| idx_file(&[count, 2, 1, 3], &(0..count as u8 * 6).collect::<Vec<_>>());
    folder.write("train-images-idx4-ubyte", &colours(2));
    folder.write("train-labels-idx1-ubyte", &idx_file(&[2], &[0, 255]));
    folder.write("t10k-images.idx4-ubyte.gz", &gz(&colours(1)));
    folder.write("t10k-labels-idx1-ubyte", &idx_file(&[1], &[9]));
    let (train, test) = idx(&folder.0).unwrap();
    assert_eq!((train.example_shape(), test.example_shape()), (&[2, 1, 3][..], &[2, 1, 3][..]));
    assert_eq!((train.classes(), train.features()[7]), (256, 7.0 / 255.0));
    folder.write("t10k-images.idx4-ubyte.gz", &gz(&images(1)));
    let (_, _, why) = data_error(idx(&folder.0));
    assert_eq!(why, "expected images of [2, 1, 3], got [3, 2, 1]");
}

#[test]
fn idx_in_memory_equals_the_files() {
    let folder = Folder::new("idx-memory");
    write_mnist(&folder);
    let from_files = idx(&folder.0).unwrap();
    let contents = [
        ("mnist-train-images.idx3-ubyte.gz", gz(&images(3))),
        ("notes.txt", Vec::new()),
        ("t10k-labels-idx1-ubyte", idx_file(&[2], &[1, 2])),
        ("train-labels-idx1-ubyte", idx_file(&[3], &[9, 0, 4])),
        ("test-images-idx3-ubyte", images(2)),
    ];
    let files = |contents: &[(&'static str, Vec<u8>)]| {
        let files: Vec<_> = contents.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        idx_in_memory("mine", &files)
    };
    let (train, test) = files(&contents).unwrap();
    assert_eq!((train.digest(), test.digest()), (from_files.0.digest(), from_files.1.digest()));
    assert_eq!((train.name(), test.name()), ("mine (train)", "mine (test)"));

    let (file, place, why) = data_error(files(&contents[..4]));
    assert_eq!((file.as_str(), place.as_str()), ("mine", "files"));
    assert!(
        why.starts_with("expected one file t10k-images-idx3-ubyte") && why.contains("got 0 among"),
        "{why}"
    );
    let mut twice = contents.to_vec();
    twice.push(("train-labels.idx1-ubyte", Vec::new()));
    assert!(data_error(files(&twice)).2.contains("got 2 among"));
    let mut short = contents.to_vec();
    short[3].1.pop();
    let (file, place, _) = data_error(files(&short));
    assert_eq!((file.as_str(), place.as_str()), ("train-labels-idx1-ubyte", "byte 10"));
}

#[test]
fn idx_errors_name_file_and_byte() {
    let (pixels, labels) = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    let good = images(3);
    let with_byte = |index: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[index] = value;
        bytes
    };
    let long = [&good[..], &[0]].concat();
    // Each case is a file name, its content, and the expected position and part of the reason in the error.
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        (pixels, Vec::new(), "byte 0", "header of 16 bytes, got 0"),
        (pixels, good[..15].to_vec(), "byte 15", "header of 16 bytes, got 15"),
        (pixels, with_byte(0, 1), "byte 0", "[01, 00, 08, 03]"),
        (pixels, with_byte(2, 0x0d), "byte 0", "[00, 00, 0d, 03]"),
        (pixels, with_byte(3, 1), "byte 0", "[00, 00, 08, 01]"),
        (pixels, with_byte(7, 0), "byte 4", "got 0"),
        (pixels, with_byte(15, 0), "byte 12", "got 0"),
        (pixels, with_byte(4, 0xff), "byte 4", "at most"),
        (pixels, idx_file(&[u32::MAX; 3], &[0; 6]), "byte 4", "at most"),
        (labels, idx_file(&[2], &[1, 2]), "byte 4", "expected 3 labels, one for each image, got 2"),
        (labels, images(3), "byte 0", "1 axes"),
        (pixels, good[..good.len() - 1].to_vec(), "byte 33", "expected 34 bytes for [3, 3, 2], got 33"),
        (pixels, long, "byte 34", "expected 34 bytes for [3, 3, 2], got 35"),
        // The header declares 65,536 images more than the file contains. This must be an error before memory
        // is allocated for them.
        (pixels, with_byte(5, 1), "", "bytes for [65539, 3, 2], got"),
    ];
    for (name, bytes, place, part) in cases {
        for gzipped in [false, true] {
            let folder = Folder::new("idx-bad");
            write_mnist(&folder);
            folder.remove(name);
            let file = if gzipped { format!("{name}.gz") } else { name.to_owned() };
            folder.write(&file, &if gzipped { gz(&bytes) } else { bytes.clone() });
            let (got, found, why) = data_error(idx(&folder.0));
            assert_eq!(got, file, "{why}");
            assert!(place.is_empty() || found == place, "{file}: {found}, {why}");
            assert!(why.contains(part), "{file}: expected {part:?} in {why:?}");
        }
    }
}

#[test]
fn idx_reports_damaged_gzip_streams_and_missing_files() {
    let folder = Folder::new("idx-gz");
    write_mnist(&folder);
    let name = "t10k-images-idx3-ubyte";
    folder.remove(name);
    let (file, place, why) = data_error(idx(&folder.0));
    assert!(
        file.starts_with("frazil-data") && place == "folder" && why.contains(name),
        "{file} {place} {why}"
    );
    let valid = gz(&images(2));
    let mut flipped = valid.clone();
    let checksum = flipped.len() - 6;
    flipped[checksum] ^= 1;
    for bad in [&valid[..valid.len() - 9], &valid[..5], &flipped, &images(2)] {
        folder.write(&format!("{name}.gz"), bad);
        assert_eq!(data_error(idx(&folder.0)).1, "gzip stream", "{} bytes", bad.len());
    }
    folder.write(&format!("{name}.gz"), &valid);
    idx(&folder.0).unwrap();
    folder.write(&format!("{name}.gz"), &gz(&idx_file(&[2, 2, 3], &[0; 12])));
    assert!(data_error(idx(&folder.0)).2.contains("expected images of [3, 2, 1], got [2, 3, 1]"));
}

/// Returns a CIFAR-10 record: a label and three planes (red, green, blue) of 1024 pixels. Pixel i of a plane
/// is the plane's value in `first` plus i, modulo 256.
fn record(label: u8, first: [u8; 3]) -> Vec<u8> {
    let plane = |first: u8| (0..1024u32).map(move |i| first.wrapping_add(i as u8));
    std::iter::once(label).chain(first.into_iter().flat_map(plane)).collect()
}

fn write_cifar10(folder: &Folder) {
    for number in 1..=5u8 {
        let bytes = [record(number, [number, 100, 200]), record(0, [0, 0, 0])].concat();
        folder.write(&format!("data_batch_{number}.bin"), &bytes);
    }
    folder.write("test_batch.bin", &record(9, [7, 8, 9]));
}

#[test]
fn cifar10_reads_planes_as_channels() {
    let folder = Folder::new("cifar");
    write_cifar10(&folder);
    let (train, test) = cifar10(&folder.0).unwrap();
    assert_eq!((train.len(), test.len(), train.classes()), (10, 1, 10));
    assert_eq!(train.example_shape(), [32, 32, 3]);
    assert_eq!(train.labels(), [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]);
    let scaled = |bytes: [u8; 6]| bytes.map(|b| f32::from(b) / 255.0);
    // Compares the first two pixels of the first image of the third training file, and the last two pixels of
    // the test image.
    assert_eq!(train.features()[4 * 3072..][..6], scaled([3, 100, 200, 4, 101, 201]));
    assert_eq!(test.features()[3066..], scaled([5, 6, 7, 6, 7, 8]));
    // The files are also found in the subfolder `cifar-10-batches-bin`, which the official archive contains.
    let outer = Folder::new("cifar-outer");
    let inner = Folder(outer.0.join("cifar-10-batches-bin"));
    std::fs::create_dir_all(&inner.0).unwrap();
    write_cifar10(&inner);
    assert_eq!(cifar10(&outer.0).unwrap().0.features(), train.features());
}

#[test]
fn cifar10_errors_name_file_and_byte() {
    let folder = Folder::new("cifar-bad");
    write_cifar10(&folder);
    let valid = [record(1, [1, 1, 1]), record(2, [2, 2, 2])].concat();
    let label = [record(1, [1, 1, 1]), record(10, [2, 2, 2])].concat();
    let long = [&valid[..], &[0]].concat();
    let cases = [
        (&valid[..6145], "byte 6145", "records of 3073 bytes, got 6145"),
        (&long[..], "byte 6147", "got 6147"),
        (&[], "byte 0", "got 0"),
        (&label, "byte 3073", "below 10, got 10"),
    ];
    for (bytes, place, part) in cases {
        folder.write("data_batch_3.bin", bytes);
        let (file, found, why) = data_error(cifar10(&folder.0));
        assert!(file == "data_batch_3.bin" && found == place && why.contains(part), "{file} {found} {why}");
    }
    folder.write("data_batch_3.bin", &valid);
    cifar10(&folder.0).unwrap();
    for name in ["data_batch_5.bin", "test_batch.bin"] {
        write_cifar10(&folder);
        folder.remove(name);
        let (_, place, why) = data_error(cifar10(&folder.0));
        assert!(place == "folder" && why.contains(name), "{place} {why}");
    }
}

#[test]
fn cifar100_has_the_fine_labels() {
    let folder = Folder::new("cifar100");
    let fine = |coarse: u8, label: u8, first| [vec![coarse], record(label, first)].concat();
    folder.write("train.bin", &[fine(3, 99, [1, 2, 3]), fine(19, 0, [4, 5, 6])].concat());
    folder.write("test.bin", &fine(0, 42, [7, 8, 9]));
    let (train, test) = cifar100(&folder.0).unwrap();
    assert_eq!((train.labels(), test.labels(), train.classes()), (&[99, 0][..], &[42][..], 100));
    assert_eq!(train.features()[3072..][..3], [4.0, 5.0, 6.0].map(|value: f32| value / 255.0));
    folder.write("test.bin", &fine(0, 100, [7, 8, 9]));
    let (file, place, why) = data_error(cifar100(&folder.0));
    assert!(file == "test.bin" && place == "byte 1" && why.contains("below 100, got 100"), "{place} {why}");
    folder.write("test.bin", &[0; 3073]);
    assert!(data_error(cifar100(&folder.0)).2.contains("records of 3074 bytes"));
    folder.remove("train.bin");
    assert!(data_error(cifar100(&folder.0)).2.contains("train.bin"));
}
