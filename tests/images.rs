//! Folders and lists of image files, in the formats that people have them in.

use frazil::Error;
use frazil::data::{Augment, Examples, ImageFiles, ImageOptions, Loader, Normalize, image_features};
use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage, RgbaImage};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Temporary folder of one test, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("frazil-images-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Writes a file and returns its path.
    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// An image whose left half is red and right half blue, with a green first row.
fn flag(width: u32, height: u32) -> DynamicImage {
    let color = |x: u32, y: u32| match (x < width / 2, y) {
        (_, 0) => Rgb([0, 255, 0]),
        (true, _) => Rgb([255, 0, 0]),
        (false, _) => Rgb([0, 0, 255]),
    };
    RgbImage::from_fn(width, height, color).into()
}

fn size(h: usize, w: usize, c: usize) -> ImageOptions {
    ImageOptions::size([h, w, c]).unwrap()
}

/// Inserts EXIF data with this orientation after the first marker of a JPEG file.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let entry = [0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
    let tiff = [&b"II*\0\x08\0\0\0\x01\0"[..], &entry, &[0; 4]].concat();
    let payload = [&b"Exif\0\0"[..], &tiff].concat();
    let length = (payload.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &payload, &jpeg[2..]].concat()
}

#[test]
fn formats_and_depths_give_the_right_picture() {
    let folder = Folder::new("formats");
    let picture = flag(12, 8);
    let expected: Vec<f32> = picture.to_rgb8().into_raw().into_iter().map(|v| f32::from(v) / 255.0).collect();
    // Recognized by content, whatever the name is.
    for (name, format) in [("a.png", ImageFormat::Png), ("b.jpg", ImageFormat::WebP)] {
        let file = folder.write(name, &encoded(&picture, format));
        assert_eq!(image_features(&file, &size(8, 12, 3)).unwrap(), expected, "{name}");
    }
    let file = folder.write("c.jpeg", &encoded(&flag(64, 48), ImageFormat::Jpeg));
    let jpeg = image_features(&file, &size(48, 64, 3)).unwrap();
    let at = |y: usize, x: usize| &jpeg[(y * 64 + x) * 3..][..3];
    for (pixel, color) in [(at(40, 8), [1.0, 0.0, 0.0]), (at(40, 56), [0.0, 0.0, 1.0])] {
        assert!(pixel.iter().zip(color).all(|(a, b)| (a - b).abs() < 0.03), "{pixel:?} {color:?}");
    }
    // Grey, for a network with color and with one channel; and color for one with grey.
    let grey = folder.write(
        "g.png",
        &encoded(&GrayImage::from_raw(2, 1, vec![51, 255]).unwrap().into(), ImageFormat::Png),
    );
    assert_eq!(image_features(&grey, &size(1, 2, 3)).unwrap(), [0.2, 0.2, 0.2, 1.0, 1.0, 1.0]);
    assert_eq!(image_features(&grey, &size(1, 2, 1)).unwrap(), [0.2, 1.0]);
    let red = folder
        .write("r.png", &encoded(&RgbImage::from_pixel(1, 1, Rgb([255, 0, 0])).into(), ImageFormat::Png));
    assert_eq!(image_features(&red, &size(1, 1, 1)).unwrap(), [76.0 / 255.0]);
    // 16 bits keep their precision.
    let deep = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(2, 1, vec![1u16, 65_535]).unwrap();
    let deep = folder.write("d.png", &encoded(&deep.into(), ImageFormat::Png));
    assert_eq!(image_features(&deep, &size(1, 2, 1)).unwrap(), [1.0 / 65_535.0, 1.0]);
    // Transparent pixels are white.
    let alpha = RgbaImage::from_raw(3, 1, vec![0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 51]).unwrap();
    let alpha = folder.write("t.png", &encoded(&alpha.into(), ImageFormat::Png));
    let got = image_features(&alpha, &size(1, 3, 3)).unwrap();
    assert_eq!(got, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.8, 0.8, 0.8]);
    // Normalized.
    let options = size(1, 1, 3).normalize(Normalize::new(&[[0.5, 0.5]; 3]).unwrap()).unwrap();
    assert_eq!(image_features(&red, &options).unwrap(), [1.0, -1.0, -1.0]);
}

#[test]
fn photographs_are_turned_as_their_exif_data_say() {
    let folder = Folder::new("exif");
    // Bright at the top left, in a gradient to the right and down.
    let upright = GrayImage::from_fn(32, 16, |x, y| image::Luma([255 - (4 * x + 6 * y) as u8]));
    let jpeg = encoded(&upright.into(), ImageFormat::Jpeg);
    // The corner with the brightest pixel after turning, by orientation: 0 top left, 1 top right, 2 bottom left,
    // 3 bottom right.
    for (orientation, corner, tall) in [
        (1, 0, false),
        (2, 1, false),
        (3, 3, false),
        (4, 2, false),
        (5, 0, true),
        (6, 1, true),
        (7, 3, true),
        (8, 2, true),
    ] {
        let file = folder.write("photo.jpg", &with_orientation(&jpeg, orientation));
        let (h, w) = if tall { (32, 16) } else { (16, 32) };
        let got = image_features(&file, &size(h, w, 1)).unwrap();
        let corners = [got[0], got[w - 1], got[(h - 1) * w], got[h * w - 1]];
        let brightest = (0..4).max_by(|&a, &b| corners[a].total_cmp(&corners[b])).unwrap();
        assert_eq!(brightest, corner, "orientation {orientation}: {corners:?}");
        assert!(corners[corner] > 0.97, "{corners:?}");
    }
}

/// The message of the error for a file.
fn refusal(path: &Path) -> String {
    let error = image_features(path, &size(8, 8, 3)).unwrap_err();
    assert!(matches!(error, Error::Data { .. } | Error::Io { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&path.file_name().unwrap().to_string_lossy().into_owned()), "{text}");
    text
}

#[test]
fn bad_files_are_errors_with_their_name() {
    let folder = Folder::new("bad");
    let jpeg = encoded(&flag(200, 150), ImageFormat::Jpeg);
    let png = encoded(&flag(40, 30), ImageFormat::Png);
    let webp = encoded(&flag(40, 30), ImageFormat::WebP);
    assert!(refusal(&folder.write("empty.jpg", b"")).contains("empty file"));
    assert!(
        refusal(&folder.write("text.png", b"This is no picture.")).contains("expected a PNG, JPEG or WebP")
    );
    assert!(refusal(&folder.write("an.gif", b"GIF89a\x01\0\x01\0\0\0\0;")).contains("another format"));
    assert!(refusal(&folder.0.join("missing.png")).contains("No such file") || cfg!(windows));
    refusal(&folder.0);
    // Truncated at any place, and damaged in the middle.
    for (name, bytes) in [("cut.jpg", &jpeg), ("cut.png", &png), ("cut.webp", &webp)] {
        for part in 1..20 {
            refusal(&folder.write(name, &bytes[..bytes.len() * part / 20]));
        }
    }
    let mut wrong = png.clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 0x55;
    refusal(&folder.write("wrong.png", &wrong));
    // A header that claims a size beyond all memory.
    let mut huge = png.clone();
    huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    refusal(&folder.write("huge.png", &huge));
    let mut none = png;
    none[16..20].fill(0);
    refusal(&folder.write("none.png", &none));
    // Random bytes never panic.
    let (mut state, mut refused) = (7u32, 0);
    for (name, bytes) in [("noise.jpg", &jpeg), ("noise.webp", &webp)] {
        for _ in 0..40 {
            let mut noisy = bytes.clone();
            for _ in 0..8 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = state as usize % noisy.len();
                noisy[at] = (state >> 24) as u8;
            }
            let path = folder.write(name, &noisy);
            match image_features(&path, &size(8, 8, 3)) {
                // A weighted mean of values up to 1 is rounded.
                Ok(features) => {
                    assert!(features.iter().all(|x| (0.0..1.000_001).contains(x)), "{features:?}")
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 20, "{refused} of 80");
}

/// Writes a folder of 12 images of three classes, one of them in a subfolder.
fn write_classes(folder: &Folder) {
    for (class, color) in [("red", [255, 0, 0]), ("blue", [0, 0, 255]), ("10 green", [0, 255, 0])] {
        for number in 0..4 {
            let name = if number == 3 {
                format!("{class}/more/{number}.PNG")
            } else {
                format!("{class}/{number}.png")
            };
            let image = RgbImage::from_pixel(4 + number, 6, Rgb(color)).into();
            folder.write(&name, &encoded(&image, ImageFormat::Png));
        }
    }
}

#[test]
fn folders_have_sorted_classes_and_a_digest_of_names_and_sizes() {
    let (one, two) = (Folder::new("classes"), Folder::new("moved"));
    for folder in [&one, &two] {
        write_classes(folder);
        folder.write("red/notes.txt", b"no picture");
        folder.write("readme.md", b"no picture");
        folder.write("red/.hidden.png", b"no picture");
        folder.write(".cache/1.png", b"no picture");
    }
    let files = ImageFiles::folder(&one.0, size(2, 2, 3)).unwrap();
    assert_eq!(files.class_names(), ["10 green", "blue", "red"]);
    assert_eq!(files.labels(), [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
    assert_eq!((files.len(), files.classes(), files.ignored().len()), (12, 3, 2));
    assert!(files.path(3).ends_with("10 green/more/3.PNG"), "{:?}", files.path(3));
    let batch = Loader::new(files).in_order(12).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.features[..3], [0.0, 1.0, 0.0]);
    assert_eq!(batch.features[batch.features.len() - 3..], [1.0, 0.0, 0.0]);
    let digest = |folder: &Folder| ImageFiles::folder(&folder.0, size(2, 2, 3)).unwrap().digest();
    let same = digest(&one);
    assert_eq!(digest(&two), same, "a moved folder");
    std::fs::rename(two.0.join("red/0.png"), two.0.join("red/00.png")).unwrap();
    assert_ne!(digest(&two), same, "another name");
    std::fs::rename(two.0.join("red/00.png"), two.0.join("red/0.png")).unwrap();
    std::fs::rename(two.0.join("red"), two.0.join("rot")).unwrap();
    assert_ne!(digest(&two), same, "another class");
    std::fs::rename(two.0.join("rot"), two.0.join("red")).unwrap();
    assert_eq!(digest(&two), same);
    two.write("red/0.png", b"other content");
    assert_ne!(digest(&two), same, "another size");
    // Divided by class; numbered as another list of names.
    let files = ImageFiles::folder(&one.0, size(2, 2, 3)).unwrap();
    let (kept, held) = files.split(0.25, 3).unwrap();
    assert_eq!((kept.labels(), held.labels()), (&[0, 0, 0, 1, 1, 1, 2, 2, 2][..], &[0, 1, 2][..]));
    let names = ["red", "a", "blue", "10 green"].map(str::to_owned);
    assert_eq!(held.with_classes(&names).unwrap().labels(), [3, 2, 0]);
    let wrong = kept.with_classes(&names[..3]).unwrap_err().to_string();
    assert!(wrong.contains("10 green") && wrong.contains("red, a, blue"), "{wrong}");
}

#[test]
fn folders_without_what_is_needed_are_named() {
    let folder = Folder::new("lacking");
    let error = |path: &Path| ImageFiles::folder(path, size(2, 2, 3)).unwrap_err().to_string();
    assert!(error(&folder.0.join("nowhere")).contains("nowhere"));
    folder.write("cat.png", b"");
    assert!(error(&folder.0).contains("a subfolder for each class, got 1 files"), "{}", error(&folder.0));
    write_classes(&folder);
    std::fs::create_dir_all(folder.0.join("empty")).unwrap();
    assert!(error(&folder.0).contains("empty: folder: expected images of the class"), "{}", error(&folder.0));
    std::fs::remove_dir(folder.0.join("empty")).unwrap();
    assert!(ImageFiles::folder(&folder.0, size(2, 2, 3)).is_ok());
    assert!(matches!(ImageFiles::folder(&folder.0, size(2, 2, 2)), Err(Error::InvalidArgument { .. })));
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let name = |bytes: &'static [u8]| folder.0.join(std::ffi::OsStr::from_bytes(bytes));
        if std::fs::create_dir_all(name(b"caf\xe9")).is_ok() {
            std::fs::copy(folder.0.join("red/0.png"), name(b"caf\xe9/\xff.png")).unwrap();
            let files = ImageFiles::folder(&folder.0, size(2, 2, 3)).unwrap();
            assert_eq!(files.class_names()[2], "caf\u{fffd}");
            assert_eq!(Loader::new(files).in_order(20).unwrap().next().unwrap().unwrap().rows(), 13);
            std::fs::create_dir_all(name(b"caf\xe8")).unwrap();
            std::fs::copy(folder.0.join("red/0.png"), name(b"caf\xe8/a.png")).unwrap();
            assert!(error(&folder.0).contains("distinct names"), "{}", error(&folder.0));
        }
        let cycle = Folder::new("cycle");
        write_classes(&cycle);
        std::os::unix::fs::symlink(cycle.0.join("red"), cycle.0.join("red/again")).unwrap();
        assert!(error(&cycle.0).contains("is a link its own folder?"), "{}", error(&cycle.0));
    }
}

#[test]
fn lists_are_read_and_their_wrong_lines_named() {
    let folder = Folder::new("csv");
    write_classes(&folder);
    let csv = |text: &str| ImageFiles::csv(folder.write("list.csv", text.as_bytes()), size(2, 2, 3));
    let text = "\u{feff}path,label\r\nred/0.png,dog\r\n\r\n \"blue/1.png\" , cat \r\n10 green/2.png,dog";
    let files = csv(text).unwrap();
    assert_eq!(
        (files.class_names(), files.labels()),
        (&["cat", "dog"].map(str::to_owned)[..], &[1, 0, 1][..])
    );
    let numbers = csv("red/0.png,10\nred/1.png,9\nred/2.png,10").unwrap();
    assert_eq!(
        (numbers.class_names(), numbers.labels()),
        (&["9", "10"].map(str::to_owned)[..], &[1, 0, 1][..])
    );
    for (text, place, part) in [
        ("", "line 1", "expected lines"),
        ("path,label\n", "line 1", "expected lines"),
        ("red/0.png", "line 1", "expected PATH,CLASS"),
        ("red/0.png,a\nred/1.png,", "line 2", "an empty one"),
        ("red/0.png,a\nred/9.png,b", "line 2", "9.png"),
        ("red/0.png,a\nred,b", "line 2", "folder"),
    ] {
        let error = csv(text).unwrap_err().to_string();
        assert!(error.contains(place) && error.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn bad_images_are_left_out_and_counted_on_request() {
    let folder = Folder::new("skip");
    write_classes(&folder);
    let jpeg = encoded(&flag(60, 40), ImageFormat::Jpeg);
    folder.write("blue/bad.jpg", &jpeg[..jpeg.len() / 2]);
    folder.write("red/zero.jpg", b"");
    let open = |skip| ImageFiles::folder(&folder.0, size(4, 4, 3).skip_bad(skip)).unwrap();
    let error = Loader::new(open(false)).in_order(20).unwrap().find_map(|batch| batch.err()).unwrap();
    assert!(error.to_string().contains("bad.jpg"), "{error}");
    let files = std::sync::Arc::new(open(true));
    for _ in 0..2 {
        let loader = Loader::new(std::sync::Arc::clone(&files));
        let rows: usize = loader.in_order(5).unwrap().map(|batch| batch.unwrap().rows()).sum();
        assert_eq!(rows, 12);
        assert_eq!(files.skipped(), [folder.0.join("blue/bad.jpg"), folder.0.join("red/zero.jpg")]);
    }
    let list = folder.write("list.csv", b"red/0.png,a\nred/gone.png,b");
    let files = ImageFiles::csv(list, size(4, 4, 3).skip_bad(true)).unwrap();
    assert_eq!(Loader::new(files).in_order(5).unwrap().next().unwrap().unwrap().labels, [0]);
}

#[test]
fn a_hundred_thousand_files_are_listed() {
    let folder = Folder::new("many");
    let png = encoded(&RgbImage::from_pixel(1, 1, Rgb([9, 8, 7])).into(), ImageFormat::Png);
    let first = folder.write("0/0.png", &png);
    std::fs::create_dir_all(folder.0.join("1")).unwrap();
    for number in 0..100_000 {
        let path = folder.0.join(format!("{}/{number}.png", number % 2));
        if number > 0 && std::fs::hard_link(&first, &path).is_err() {
            std::fs::copy(&first, &path).unwrap();
        }
    }
    let files = ImageFiles::folder(&folder.0, size(1, 1, 3)).unwrap();
    assert_eq!((files.len(), files.classes()), (100_000, 2));
    let (train, held) = files.split(0.01, 1).unwrap();
    let augmented = train.with_options(size(1, 1, 3).augment(Augment::none().flip(), 1)).unwrap();
    assert_eq!((augmented.len(), held.len()), (99_000, 1000));
    let mut batches = Loader::new(augmented).batches_for_epoch(32, 1, 0).unwrap();
    assert_eq!(batches.next().unwrap().unwrap().rows(), 32);
}
