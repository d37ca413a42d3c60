//! Folders and lists of image files, which are decoded when they are read.

use super::Examples;
use super::decode;
use super::split;
use super::transform::ImageOptions;
use crate::digest::Fnv1a;
use crate::error::{Error, Result, printable};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Extensions of the names of image files in a folder.
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Folders inside a class, at most; deeper ones are a cycle of links.
const MAX_DEPTH: usize = 32;

/// PNG, JPEG and WebP files with a class each, decoded when they are read. Needs the feature `images`.
///
/// Images are turned as their EXIF data say; transparent pixels are white. Files of 16 bits keep their precision. A
/// damaged file is an error that names it, unless [`ImageOptions::skip_bad`] is set.
///
/// ```no_run
/// use frazil::data::{Augment, ImageFiles, ImageOptions, Loader, Normalize};
///
/// // One subfolder for each class: photos/cat/1.jpg, photos/dog/a.png, ...
/// let options = ImageOptions::size([224, 224, 3])?.normalize(Normalize::imagenet())?;
/// let (train, validation) = ImageFiles::folder("photos", options.clone())?.split(0.2, 7)?;
/// let train = train.with_options(options.augment(Augment::none().flip().crop(), 7))?;
/// let names = train.class_names().to_vec();
/// for batch in Loader::new(train).batches_for_epoch(32, 7, 0)? {
///     let batch = batch?;
/// }
/// # Ok::<(), frazil::Error>(())
/// ```
pub struct ImageFiles {
    name: String,
    root: PathBuf,
    /// Paths below the root, and sizes in bytes.
    files: Vec<(PathBuf, u64)>,
    labels: Vec<u32>,
    classes: Vec<String>,
    options: ImageOptions,
    skipped: Mutex<BTreeSet<PathBuf>>,
    ignored: Vec<PathBuf>,
}

/// Decodes an image file: features `[h, w, c]` of the options, without random changes. Needs the feature `images`.
///
/// # Errors
/// [`Error::Io`], [`Error::HostMemory`]; [`Error::Data`] if it is no PNG, JPEG or WebP image, or damaged.
pub fn image_features(path: impl AsRef<Path>, options: &ImageOptions) -> Result<Vec<f32>> {
    check_channels(options)?;
    let mut features = vec![0.0; options.shape().iter().product()];
    let plain = options.clone().augment(super::Augment::none(), 0);
    decode::features(path.as_ref(), &plain, (0, 0), &mut features)?;
    Ok(features)
}

fn check_channels(options: &ImageOptions) -> Result<()> {
    match options.shape() {
        [_, _, 1 | 3] => Ok(()),
        other => Err(Error::argument("size of images", "1 or 3 channels", format!("{other:?}"))),
    }
}

impl ImageFiles {
    /// The images in the subfolders of a folder, one for each class, in the order of their names. Images in folders
    /// inside these belong to the same class; other files are ignored, as are names that begin with a dot.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] if there are no subfolders, one has no images, or two have the same name but for
    /// characters that are not UTF-8; [`Error::InvalidArgument`] unless there are 1 or 3 channels.
    pub fn folder(path: impl AsRef<Path>, options: ImageOptions) -> Result<Self> {
        let root = path.as_ref();
        let refused = |path: &Path, why: String| Error::Data {
            path: path.to_owned(),
            place: "folder".to_owned(),
            why,
            source: None,
        };
        let (folders, outside) = list(root)?;
        if folders.is_empty() {
            let why =
                format!("expected a subfolder for each class, got {} files and no subfolder", outside.len());
            return Err(refused(root, why));
        }
        let (mut files, mut ignored) = (Vec::new(), outside);
        let (mut labels, mut classes) = (Vec::new(), Vec::new());
        for (label, folder) in (0..).zip(folders) {
            let class =
                folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if classes.contains(&class) {
                let why = format!("expected class folders with distinct names, got two that read {class}");
                return Err(refused(&folder, why));
            }
            classes.push(class);
            walk(&folder, 0, &mut files, &mut ignored)?;
            if files.len() == labels.len() {
                let formats = EXTENSIONS.join(", ");
                return Err(refused(&folder, format!("expected images of the class ({formats}), got none")));
            }
            labels.resize(files.len(), label);
        }
        let files = files.into_iter().map(|(path, size)| {
            let below = path.strip_prefix(root).map(Path::to_owned).unwrap_or(path);
            (below, size)
        });
        Self::new(root, files.collect(), labels, classes, ignored, options)
    }

    /// The images of a list: a line `PATH,CLASS` for each. Paths are relative to the folder of the list. A first line
    /// `path,label` is a heading. Classes are sorted by name, or by value if all are numbers.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] for a line without a comma or class, or whose file does not exist (unless bad
    /// images are left out), and for no lines; [`Error::InvalidArgument`] unless there are 1 or 3 channels.
    pub fn csv(path: impl AsRef<Path>, options: ImageOptions) -> Result<Self> {
        let path = path.as_ref();
        let root = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let bytes = crate::file::read(path)?;
        let refused = |line: usize, why: String| Error::Data {
            path: path.to_owned(),
            place: format!("line {line}"),
            why,
            source: None,
        };
        let (mut files, mut rows) = (Vec::new(), Vec::new());
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || (number == 1 && line.eq_ignore_ascii_case(b"path,label")) {
                continue;
            }
            let comma = line.iter().rposition(|&byte| byte == b',');
            let Some((file, class)) =
                comma.map(|comma| (unquoted(&line[..comma]), unquoted(&line[comma + 1..])))
            else {
                let got = printable(&String::from_utf8_lossy(line));
                return Err(refused(number, format!("expected PATH,CLASS, got {got:?}")));
            };
            if file.is_empty() || class.is_empty() {
                return Err(refused(number, "expected a path and a class, got an empty one".to_owned()));
            }
            let file = path_of(file);
            let size = match std::fs::metadata(root.join(&file)) {
                Ok(metadata) if metadata.is_file() => metadata.len(),
                _ if options.skips_bad() => 0,
                Ok(_) => {
                    return Err(refused(
                        number,
                        format!("expected an image, got the folder {}", file.display()),
                    ));
                }
                Err(error) => return Err(refused(number, format!("{}: {error}", file.display()))),
            };
            files.push((file, size));
            rows.push(String::from_utf8_lossy(class).into_owned());
        }
        if files.is_empty() {
            return Err(refused(1, "expected lines PATH,CLASS, got none".to_owned()));
        }
        let distinct: BTreeSet<&String> = rows.iter().collect();
        let mut classes: Vec<String> = distinct.into_iter().cloned().collect();
        let numbers: Option<Vec<u64>> = classes.iter().map(|class| class.parse().ok()).collect();
        if numbers.is_some() {
            classes.sort_by_key(|class| class.parse::<u64>().unwrap_or(u64::MAX));
        }
        let numbers: BTreeMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
        let labels = rows.iter().map(|class| numbers.get(class.as_str()).copied().unwrap_or(0)).collect();
        Self::new(root, files, labels, classes, Vec::new(), options)
    }

    fn new(
        root: &Path,
        files: Vec<(PathBuf, u64)>,
        labels: Vec<u32>,
        classes: Vec<String>,
        ignored: Vec<PathBuf>,
        options: ImageOptions,
    ) -> Result<Self> {
        check_channels(&options)?;
        let (name, root) = (root.display().to_string(), root.to_owned());
        let skipped = Mutex::default();
        Ok(ImageFiles { name, root, files, labels, classes, options, skipped, ignored })
    }

    /// Sets how images become examples.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless there are 1 or 3 channels.
    pub fn with_options(mut self, options: ImageOptions) -> Result<Self> {
        check_channels(&options)?;
        self.options = options;
        Ok(self)
    }

    /// Numbers the classes as in another list of names, such as that of the images that a model was trained on.
    ///
    /// # Errors
    /// [`Error::Data`] for a class that is not in the list.
    pub fn with_classes(mut self, names: &[String]) -> Result<Self> {
        let place = |name: &String| names.iter().position(|other| other == name);
        let mut numbers = Vec::new();
        for name in &self.classes {
            let Some(number) = place(name) else {
                let known = names.iter().take(10).map(|name| printable(name)).collect::<Vec<_>>().join(", ");
                let why =
                    format!("expected one of the {} classes {known}, got {}", names.len(), printable(name));
                return Err(Error::Data {
                    path: self.root.clone(),
                    place: "class".to_owned(),
                    why,
                    source: None,
                });
            };
            numbers.push(number as u32);
        }
        self.labels.iter_mut().for_each(|label| *label = numbers[*label as usize]);
        self.classes = names.to_vec();
        Ok(self)
    }

    /// Divides the images at random by `seed`, class by class: returns those that stay and `fraction` of them. A class
    /// of two images or more has at least one in each part.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless the fraction is between 0 and 1; [`Error::Data`] if no class has two images.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Self, Self)> {
        let parts = split::rows(&self.name, &self.labels, fraction, seed)?;
        let [kept, held] = parts.map(|rows| ImageFiles {
            name: self.name.clone(),
            root: self.root.clone(),
            files: rows.iter().map(|&row| self.files[row].clone()).collect(),
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            classes: self.classes.clone(),
            options: self.options.clone(),
            skipped: Mutex::default(),
            ignored: Vec::new(),
        });
        Ok((kept, held))
    }

    /// Names of the classes, by number.
    pub fn class_names(&self) -> &[String] {
        &self.classes
    }

    /// The path of an example.
    pub fn path(&self, index: usize) -> PathBuf {
        self.root.join(&self.files[index].0)
    }

    /// Files in the folder that are no images by their names.
    pub fn ignored(&self) -> &[PathBuf] {
        &self.ignored
    }

    /// The bad files that were left out so far, see [`ImageOptions::skip_bad`].
    pub fn skipped(&self) -> Vec<PathBuf> {
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Returns a digest of the names of the files below the folder, their sizes and their classes. Contents are not
    /// read: for many files, that takes as long as an epoch.
    pub fn digest(&self) -> u64 {
        let mut fold = Fnv1a::default();
        for ((path, size), &label) in self.files.iter().zip(&self.labels) {
            for component in path.components() {
                fold.bytes(component.as_os_str().as_encoded_bytes());
                fold.bytes(&[0]);
            }
            fold.bytes(&size.to_le_bytes());
            fold.bytes(self.classes[label as usize].as_bytes());
            fold.bytes(&[0]);
        }
        fold.value()
    }
}

impl Examples for ImageFiles {
    fn name(&self) -> &str {
        &self.name
    }

    fn example_shape(&self) -> &[usize] {
        self.options.shape()
    }

    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn classes(&self) -> usize {
        self.classes.len()
    }

    fn read(&self, index: usize, epoch: u64, features: &mut [f32], _target: &mut [f32]) -> Result<bool> {
        let path = self.path(index);
        match decode::features(&path, &self.options, (index, epoch), features) {
            Ok(()) => Ok(true),
            Err(Error::Data { .. } | Error::Io { .. }) if self.options.skips_bad() => {
                self.skipped.lock().unwrap_or_else(PoisonError::into_inner).insert(path);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for ImageFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, classes) = (self.files.len(), &self.classes);
        f.debug_struct("ImageFiles")
            .field("name", &self.name)
            .field("len", &len)
            .field("classes", classes)
            .finish()
    }
}

/// Returns the subfolders and the files of a folder, sorted by name.
fn list(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let io = |source| Error::Io { path: folder.to_owned(), source };
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if path.is_dir() { folders.push(path) } else { files.push(path) }
    }
    folders.sort_unstable();
    files.sort_unstable();
    Ok((folders, files))
}

/// Adds the image files in a folder and its subfolders, with their sizes.
fn walk(
    folder: &Path,
    depth: usize,
    files: &mut Vec<(PathBuf, u64)>,
    ignored: &mut Vec<PathBuf>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        let why = format!("expected at most {MAX_DEPTH} folders in each other; is a link its own folder?");
        return Err(Error::Data { path: folder.to_owned(), place: "folder".to_owned(), why, source: None });
    }
    let (folders, found) = list(folder)?;
    for path in found {
        let is_image =
            |extension: &OsStr| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known));
        if path.extension().is_some_and(is_image) {
            let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            files.push((path, size));
        } else {
            ignored.push(path);
        }
    }
    folders.iter().try_for_each(|folder| walk(folder, depth + 1, files, ignored))
}

/// A field of a list without spaces and quotes around it.
fn unquoted(field: &[u8]) -> &[u8] {
    let field = field.trim_ascii();
    field.strip_prefix(b"\"").and_then(|field| field.strip_suffix(b"\"")).unwrap_or(field)
}

/// The path of these bytes, which need not be UTF-8 on Unix.
fn path_of(bytes: &[u8]) -> PathBuf {
    #[cfg(unix)]
    {
        PathBuf::from(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes))
    }
    #[cfg(not(unix))]
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}
