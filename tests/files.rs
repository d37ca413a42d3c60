//! Tests of file access: interrupted writes, symbolic links, permissions, special files, and damaged files or
//! files of other programs.

use crate::support::training::{ROWS, train, trainer};
use frazil::checkpoint::{Checkpoint, Tensor};
use frazil::{Error, FreezeRule, Sgd, Trainer, TrainerOptions};
use std::path::{Path, PathBuf};

/// Temporary folder of one test, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("frazil-files-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns the sorted names of all files in the folder.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn small_trainer() -> Trainer {
    trainer(Sgd::new(0.1).momentum(0.9).into(), TrainerOptions::batch(ROWS).seed(3))
}

fn checkpoint(value: u32, tensors: usize) -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    checkpoint.note("value", value);
    for number in 0..tensors {
        checkpoint.push(format!("t{number}"), Tensor::u32(vec![1000], vec![value; 1000]));
    }
    checkpoint
}

#[test]
fn concurrent_writers_leave_one_complete_file() {
    let folder = Folder::new("writers");
    let path = folder.join("c.safetensors");
    checkpoint(0, 50).write(&path).unwrap();
    std::thread::scope(|scope| {
        for writer in 1..=4 {
            let path = &path;
            scope.spawn(move || (0..15).for_each(|_| checkpoint(writer, 50).write(path).unwrap()));
        }
        for _ in 0..60 {
            let read = Checkpoint::read(&path).unwrap();
            let value: u32 = read.notes()["value"].parse().unwrap();
            assert!(read.tensors().iter().all(|(_, tensor)| tensor.bits().iter().all(|&bits| bits == value)));
        }
    });
    assert_eq!(folder.names(), ["c.safetensors"], "no temporary file is left");
}

#[cfg(unix)]
#[test]
fn write_follows_links_keeps_permissions_and_cleans_up() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = Folder::new("links");
    let (target, link) = (folder.join("target.safetensors"), folder.join("link.safetensors"));
    checkpoint(1, 1).write(&target).unwrap();
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink("target.safetensors", &link).unwrap();
    checkpoint(2, 1).write(&link).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().file_type().is_symlink(), "the link is still a link");
    assert_eq!(Checkpoint::read(&target).unwrap().notes()["value"], "2");
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    // Saving must not write through a symbolic link at `target.safetensors.partial`, the fixed name that
    // earlier versions used for the temporary file.
    let bystander = folder.join("bystander");
    std::fs::write(&bystander, "mine").unwrap();
    symlink(&bystander, folder.join("target.safetensors.partial")).unwrap();
    checkpoint(3, 1).write(&target).unwrap();
    assert_eq!(std::fs::read_to_string(&bystander).unwrap(), "mine");
    // A new checkpoint has the same default permissions as any new file.
    let (new, plain) = (folder.join("new.safetensors"), folder.join("plain"));
    checkpoint(4, 1).write(&new).unwrap();
    std::fs::write(&plain, "").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&new), mode(&plain));
    let missing = folder.join("no/such/folder.safetensors");
    let error = checkpoint(5, 1).write(&missing).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == missing), "{error}");
    assert!(error.to_string().contains("create the folder"), "{error}");
    assert!(!folder.names().iter().any(|name| name.starts_with(".frazil-")), "{:?}", folder.names());
}

#[cfg(unix)]
#[test]
fn special_files_are_refused_without_reading_them() {
    let folder = Folder::new("special");
    let pipe = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut t = small_trainer();
    for path in [pipe.as_path(), Path::new("/dev/zero"), folder.0.as_path()] {
        let refused = |error: Error| {
            assert!(matches!(error, Error::Io { .. }), "{error}");
            assert!(error.to_string().contains("expected a regular file"), "{error}");
        };
        refused(Checkpoint::read(path).unwrap_err());
        refused(t.freeze("conv.kernel", FreezeRule::from_file(path, "m")).unwrap_err());
        refused(t.load(path).unwrap_err());
        refused(t.load_weights(path, "*").unwrap_err());
    }
}

/// Checkpoints store their notes, including the checksum, under one key in the safetensors header. A flipped
/// bit in this key must be an error: the file must not be accepted as a safetensors file of another program,
/// which has no checksum.
#[test]
fn flipped_bit_in_the_header_key_does_not_disable_the_checksum() {
    let folder = Folder::new("key");
    let path = folder.join("c.safetensors");
    small_trainer().save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let key = bytes.windows(8).position(|window| window == b"\"frazil\"").unwrap();
    for bit in 0..8 * 8 {
        let mut damaged = bytes.clone();
        damaged[key + bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &damaged).unwrap();
        let read = Checkpoint::read(&path);
        assert!(matches!(read, Err(Error::Checkpoint { .. })), "bit {bit}: {read:?}");
        assert!(small_trainer().load_weights(&path, "*").is_err(), "bit {bit}");
    }
}

#[test]
fn foreign_files_are_read_except_for_unsupported_tensors() {
    use safetensors::tensor::{Dtype, TensorView};
    let folder = Folder::new("foreign");
    let path = folder.join("f.safetensors");
    let (floats, integers) = ([0u8; 4 * 4], [7u8; 8]);
    let views = [
        ("fc.bias", TensorView::new(Dtype::F32, vec![4], &floats).unwrap()),
        ("bn.num_batches_tracked", TensorView::new(Dtype::I64, vec![], &integers).unwrap()),
        ("half", TensorView::new(Dtype::F16, vec![4], &integers).unwrap()),
    ];
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let read = Checkpoint::read(&path).unwrap();
    assert!(!read.is_own());
    assert_eq!(
        read.unread().keys().map(String::as_str).collect::<Vec<_>>(),
        ["bn.num_batches_tracked", "half"]
    );
    let mut t = small_trainer();
    assert_eq!(t.load_weights(&path, "fc.bias").unwrap(), 1);
    assert_eq!(t.parameter("fc.bias").unwrap(), [0.0; 4]);
    for (bytes, part) in [
        (b"\x93NUMPY\x01\x00".as_slice(), "NumPy"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04", "PyTorch"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = t.load_weights(&path, "*").unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn mask_files_are_compared_by_shape_and_checksum() {
    use safetensors::tensor::{Dtype, TensorView};
    let folder = Folder::new("masks");
    let path = folder.join("m.safetensors");
    let bytes = [1u8; 90];
    let words = [0u8; 4 * 90];
    let write = |dtype: Dtype, shape: &[usize], bytes: &[u8]| {
        let view = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        std::fs::write(&path, safetensors::serialize([("m", view)], None).unwrap()).unwrap();
    };
    let mut t = small_trainer();
    let mut freeze = || t.freeze("conv.kernel", FreezeRule::from_file(&path, "m"));
    // The shape of conv.kernel is [3, 3, 2, 5] (HWIO). A mask of shape [5, 2, 3, 3] (PyTorch's OIHW) is
    // rejected.
    write(Dtype::U8, &[5, 2, 3, 3], &bytes);
    let error = freeze().unwrap_err().to_string();
    for part in ["[3, 3, 2, 5]", "[5, 2, 3, 3]", "HWIO", "conv.kernel"] {
        assert!(error.contains(part), "{error}");
    }
    write(Dtype::U32, &[3, 3, 2, 5], &words);
    let error = freeze().unwrap_err().to_string();
    assert!(error.contains("one U32 per element") && error.contains("3 packed"), "{error}");
    write(Dtype::F16, &[3, 3, 2, 5], &[0; 180]);
    assert!(freeze().unwrap_err().to_string().contains("got F16"));
    for shape in [vec![3, 3, 2, 5], vec![90]] {
        write(Dtype::BOOL, &shape, &bytes);
        freeze().unwrap();
    }
    // A checkpoint of this crate is also verified when only a mask is read from it: one flipped mask bit is
    // rejected.
    let mut other = small_trainer();
    other.freeze("conv.kernel", FreezeRule::random(0.5).seed(1)).unwrap();
    other.save(&path).unwrap();
    let rule = || FreezeRule::from_file(&path, "mask.conv.kernel");
    let mut fresh = small_trainer();
    assert_eq!(fresh.freeze("conv.kernel", rule()).unwrap(), 45);
    let mut damaged = std::fs::read(&path).unwrap();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let error = small_trainer().freeze("conv.kernel", rule()).unwrap_err();
    assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
}

#[test]
fn changed_frozen_weight_is_not_saved() {
    let folder = Folder::new("changed");
    let path = folder.join("c.safetensors");
    let mut t = small_trainer();
    t.freeze("conv.kernel", FreezeRule::random(0.5).seed(1)).unwrap();
    train(&mut t, 2);
    t.save(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    let id = t.store().find("conv.kernel").unwrap();
    let index = t.mask("conv.kernel").unwrap().frozen_indices().next().unwrap();
    let mut bits = t.store().read_weights(id).unwrap();
    let frozen = bits[index];
    bits[index] ^= 1;
    t.store().write_weights(id, &bits).unwrap();
    match t.save(&path) {
        Err(Error::FrozenChanged { path, what, index: at, expected, got }) => {
            assert_eq!((path.as_str(), what.as_str(), at), ("conv.kernel", "weight", index));
            assert_eq!((expected, got), (frozen, frozen ^ 1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(&path).unwrap(), good, "the previous file is unchanged");
}

/// Reads 45,000 tensors by name. With a linear search for each, this took 20 seconds.
#[test]
fn many_tensors_are_found_in_linear_time() {
    let folder = Folder::new("many");
    let path = folder.join("c.safetensors");
    let mut many = Checkpoint::default();
    for number in 0..45_000 {
        many.push(format!("layer{number}.kernel"), Tensor::f32_bits(vec![1], vec![number]));
    }
    many.write(&path).unwrap();
    let begun = std::time::Instant::now();
    let read = Checkpoint::read(&path).unwrap();
    for number in 0..45_000u32 {
        let name = format!("layer{number}.kernel");
        assert_eq!(read.tensor(&name).unwrap().bits(), [number]);
        assert_eq!(read.mask(&name).frozen_count(), 0);
    }
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}
