//! Data sets that are named on the command line.

use crate::{at_flag, os_text};
use clap::Args;
use frazil::checkpoint::Checkpoint;
use frazil::data::{
    Augment, Examples, ImageFiles, ImageOptions, Loader, Normalize, TransformedImages, cifar10, cifar100, idx,
};
use frazil::{Dataset, Digits, Error, Model, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Part of the training examples that is held out if there is no test set.
const DEFAULT_VALIDATION: f64 = 0.2;

/// How images become examples.
#[derive(Args, Default)]
#[command(next_help_heading = "Images")]
pub struct ImageArgs {
    /// Normalization of each channel: none (0 to 1), imagenet (for torchvision's weights), half (-1 to 1) or
    /// MEANS/DEVIATIONS such as 0.5,0.5,0.5/0.25,0.25,0.25 [default: that of the weights' checkpoint, or none].
    #[arg(long, value_name = "PRESET")]
    pub normalize: Option<Normalize>,
    /// Leave out image files that cannot be decoded, and count them.
    #[arg(long)]
    pub skip_bad: bool,
    /// Number of threads that read and decode images [default: the number of processors].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub workers: Option<u16>,
}

impl ImageArgs {
    /// Options for examples of this shape; `fallback` is the normalization of the weights.
    pub fn options(&self, shape: &[usize], fallback: Option<&Normalize>) -> Result<ImageOptions> {
        let &[h, w, c] = shape else {
            return Err(argument("the model", "images [h, w, c] as its input", &format!("{shape:?}")));
        };
        let normalize = self.normalize.as_ref().or(fallback).cloned().unwrap_or_default();
        let options = ImageOptions::size([h, w, c]).map_err(|error| at_flag("--size", error))?;
        let options = options.normalize(normalize).map_err(|error| at_flag("--normalize", error))?;
        Ok(options.skip_bad(self.skip_bad))
    }

    pub fn loader(&self, examples: impl Examples + 'static) -> Loader {
        let loader = Loader::new(examples);
        match self.workers {
            Some(workers) => loader.workers(workers.into()),
            None => loader,
        }
    }
}

/// Name and value of the notes of a checkpoint with the names of the classes and the normalization.
pub const CLASSES: &str = "classes";
pub const NORMALIZE: &str = "normalize";

/// The names of the classes in the notes of a checkpoint; none if it has no such note.
pub fn class_names(checkpoint: &Checkpoint) -> Vec<String> {
    let text = checkpoint.notes().get(&format!("note.{CLASSES}"));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The normalization in the notes of a checkpoint.
pub fn normalization(checkpoint: &Checkpoint) -> Option<Normalize> {
    checkpoint.notes().get(&format!("note.{NORMALIZE}"))?.parse().ok()
}

/// Parses `HxW` or `HxWxC` into `[h, w, c]`, with three channels by default.
pub fn parse_size(text: &str) -> std::result::Result<[usize; 3], String> {
    let extents: Option<Vec<usize>> = text.split('x').map(|extent| extent.parse().ok()).collect();
    let size = match extents.as_deref() {
        Some(&[h, w]) => [h, w, 3],
        Some(&[h, w, c]) => [h, w, c],
        _ => return Err("expected HxW or HxWxC, such as 224x224 or 28x28x1".to_owned()),
    };
    match ImageOptions::size(size) {
        Ok(_) if [1, 3].contains(&size[2]) => Ok(size),
        Ok(_) => Err("expected 1 or 3 channels".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A data set that `--data` names.
pub enum Source {
    Digits,
    Idx(PathBuf),
    Cifar10(PathBuf),
    Cifar100(PathBuf),
    Folder(PathBuf),
    Csv(PathBuf),
}

/// What `--data` accepts.
const EXPECTED: &str = "digits, idx:DIR, cifar10:DIR, cifar100:DIR, folder:DIR or csv:FILE";

/// Examples that are used for one purpose.
#[derive(Clone)]
pub struct Part {
    pub loader: Loader,
    files: Option<Arc<ImageFiles>>,
}

/// The examples of a run.
pub struct Sets {
    pub train: Part,
    /// Examples that are evaluated after each epoch.
    pub held: Part,
    /// What these are: `test` or `validation`.
    pub held_name: &'static str,
    /// Examples that are evaluated at the end, besides those.
    pub test: Option<Part>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Digest of all examples, before they are divided.
    pub digest: String,
    /// What a reader should know about the data.
    pub notes: Vec<String>,
}

/// How the examples of a run are read.
pub struct Reading<'a> {
    pub images: &'a ImageArgs,
    /// Shape of the examples; `None` for that of the data.
    pub size: Option<[usize; 3]>,
    pub normalize: Option<Normalize>,
    pub augment: Augment,
    pub validation: Option<f64>,
    pub seed: u64,
}

impl Source {
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "digits" => Ok(Source::Digits),
            Some((kind, path)) if !path.is_empty() => {
                let path = os_text::path(path);
                match kind {
                    "idx" => Ok(Source::Idx(path)),
                    "cifar10" => Ok(Source::Cifar10(path)),
                    "cifar100" => Ok(Source::Cifar100(path)),
                    "folder" => Ok(Source::Folder(path)),
                    "csv" => Ok(Source::Csv(path)),
                    _ => Err(argument("--data", EXPECTED, text)),
                }
            }
            _ => Err(argument("--data", EXPECTED, text)),
        }
    }

    /// The kind of data set, which names the output folder.
    pub fn name(&self) -> &'static str {
        match self {
            Source::Digits => "digits",
            Source::Idx(_) => "idx",
            Source::Cifar10(_) => "cifar10",
            Source::Cifar100(_) => "cifar100",
            Source::Folder(_) => "folder",
            Source::Csv(_) => "csv",
        }
    }

    /// The default model.
    pub fn model(&self) -> &'static str {
        match self {
            Source::Digits => "digits",
            Source::Idx(_) => "lenet28",
            Source::Cifar10(_) | Source::Cifar100(_) => "cifar",
            Source::Folder(_) | Source::Csv(_) => "resnet18",
        }
    }

    /// Whether the examples have the size of the model's images, not one of their own.
    pub fn is_files(&self) -> bool {
        matches!(self, Source::Folder(_) | Source::Csv(_))
    }

    /// Loads the examples of a run.
    pub fn load(&self, how: &Reading) -> Result<Sets> {
        match self {
            Source::Folder(_) | Source::Csv(_) => self.files(how),
            _ => self.memory(how),
        }
    }

    /// Loads the examples to evaluate: the test set; of image files without one all. `classes` are the names of the
    /// model's classes, if it has some.
    pub fn load_test(&self, how: &Reading, classes: &[String]) -> Result<Part> {
        let Source::Folder(root) = self else {
            if let Source::Csv(list) = self {
                let files = ImageFiles::csv(list, how.options(&[0; 3])?)?;
                return Ok(how.part(with_names(files, classes)?));
            }
            return how.dataset(self.datasets()?.1, Augment::none());
        };
        let found = subfolders(root);
        let folder = found.test.or(found.validation).unwrap_or_else(|| root.clone());
        Ok(how.part(with_names(ImageFiles::folder(folder, how.options(&[0; 3])?)?, classes)?))
    }

    fn datasets(&self) -> Result<(Dataset, Dataset)> {
        match self {
            Source::Idx(folder) => idx(folder),
            Source::Cifar10(folder) => cifar10(folder),
            Source::Cifar100(folder) => cifar100(folder),
            Source::Digits | Source::Folder(_) | Source::Csv(_) => Ok((Digits::train()?, Digits::test()?)),
        }
    }

    fn memory(&self, how: &Reading) -> Result<Sets> {
        let (train, test) = self.datasets()?;
        let digest = format!("{:016x}{:016x}", train.digest(), test.digest());
        let classes = self.listed_names(train.classes());
        let test = how.dataset(test, Augment::none())?;
        let (train, held, held_name, test) = match how.validation {
            None => (train, test, "test", None),
            Some(fraction) => {
                let (train, held) =
                    train.split(fraction, how.seed).map_err(|e| at_flag("--validation", e))?;
                (train, how.dataset(held, Augment::none())?, "validation", Some(test))
            }
        };
        let train = how.dataset(train, how.augment)?;
        Ok(Sets { train, held, held_name, test, classes, digest, notes: Vec::new() })
    }

    /// Names of the classes in a file of the data set, if it is there; otherwise their numbers.
    fn listed_names(&self, classes: usize) -> Vec<String> {
        let listed = match self {
            Source::Cifar10(folder) => (folder, "cifar-10-batches-bin", "batches.meta.txt"),
            Source::Cifar100(folder) => (folder, "cifar-100-binary", "fine_label_names.txt"),
            _ => return (0..classes).map(|class| class.to_string()).collect(),
        };
        let (folder, subfolder, file) = listed;
        let inside = folder.join(subfolder);
        let folder = if inside.is_dir() { &inside } else { folder };
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        let names: Vec<_> =
            text.lines().map(|line| line.trim().to_owned()).filter(|n| !n.is_empty()).collect();
        if names.len() == classes { names } else { (0..classes).map(|class| class.to_string()).collect() }
    }

    fn files(&self, how: &Reading) -> Result<Sets> {
        let plain = how.options(&[0; 3])?;
        let mut notes = Vec::new();
        let mut open = |folder: &Path| -> Result<ImageFiles> {
            let files = ImageFiles::folder(folder, plain.clone())?;
            if let [first, ..] = files.ignored() {
                let (count, first) = (files.ignored().len(), first.display());
                notes.push(format!(
                    "ignored {count} files that are no images in class folders, such as {first}"
                ));
            }
            Ok(files)
        };
        let (all, validation, test) = match self {
            Source::Csv(list) => (ImageFiles::csv(list, plain)?, None, None),
            _ => {
                let root = self.path();
                let Subfolders { train, validation, test } = subfolders(root);
                let all = open(train.as_deref().unwrap_or(root))?;
                let mut other = |folder: Option<PathBuf>| -> Result<Option<ImageFiles>> {
                    folder.map(|folder| open(&folder)?.with_classes(all.class_names())).transpose()
                };
                let (validation, test) = (other(validation)?, other(test)?);
                (all, validation, test)
            }
        };
        if all.classes() < 2 {
            let got = format!("only {:?}", all.class_names().first().map_or("", String::as_str));
            return Err(argument("--data", "images of 2 classes or more", &got));
        }
        let classes = all.class_names().to_vec();
        let parts = [Some(&all), validation.as_ref(), test.as_ref()];
        let digest = parts.into_iter().flatten().map(|files| format!("{:016x}", files.digest())).collect();
        let divided = |all: &ImageFiles, fraction: f64| {
            all.split(fraction, how.seed).map_err(|error| at_flag("--validation", error))
        };
        let (train, held, held_name, test) = if let Some(fraction) = how.validation {
            let (train, held) = divided(&all, fraction)?;
            (train, held, "validation", test.or(validation))
        } else if let Some(validation) = validation {
            (all, validation, "validation", test)
        } else if let Some(test) = test {
            (all, test, "test", None)
        } else {
            let share = 100.0 * DEFAULT_VALIDATION;
            notes.push(format!(
                "{share} % of the images of each class are held out for validation (--validation)"
            ));
            let (train, held) = divided(&all, DEFAULT_VALIDATION)?;
            (train, held, "validation", None)
        };
        let changed = how.options(&[0; 3])?.augment(how.augment, how.seed);
        let train = how.part(train.with_options(changed)?);
        let (held, test) = (how.part(held), test.map(|files| how.part(files)));
        Ok(Sets { train, held, held_name, test, classes, digest, notes })
    }

    fn path(&self) -> &Path {
        match self {
            Source::Digits => Path::new(""),
            Source::Idx(path)
            | Source::Cifar10(path)
            | Source::Cifar100(path)
            | Source::Folder(path)
            | Source::Csv(path) => path,
        }
    }
}

impl<'a> Reading<'a> {
    /// Examples for a network, to evaluate it; `normalize` is the normalization that it was trained with.
    pub fn of_network(images: &'a ImageArgs, model: &Model, normalize: Option<&Normalize>) -> Self {
        Reading {
            images,
            size: <[usize; 3]>::try_from(model.example_shape()).ok(),
            normalize: normalize.cloned(),
            augment: Augment::none(),
            validation: None,
            seed: 0,
        }
    }

    /// Options of the run's images; `shape` is that of the data.
    fn options(&self, shape: &[usize]) -> Result<ImageOptions> {
        let size = self.size.as_ref().map_or(shape, |size| size);
        self.images.options(size, self.normalize.as_ref())
    }

    fn part(&self, files: ImageFiles) -> Part {
        let files = Arc::new(files);
        Part { loader: self.images.loader(Arc::clone(&files)), files: Some(files) }
    }

    /// Examples in memory, as they are or changed.
    fn dataset(&self, data: Dataset, augment: Augment) -> Result<Part> {
        let normalize = self.images.normalize.as_ref().or(self.normalize.as_ref());
        let same_size = self.size.is_none_or(|size| size == *data.example_shape());
        let unchanged = same_size && !augment.is_some() && normalize.is_none_or(|n| *n == Normalize::none());
        let loader = if unchanged {
            self.images.loader(data)
        } else {
            let options = self.options(data.example_shape())?.augment(augment, self.seed);
            self.images
                .loader(TransformedImages::new(data, options).map_err(|error| at_flag("--size", error))?)
        };
        Ok(Part { loader, files: None })
    }
}

impl Part {
    pub fn len(&self) -> usize {
        self.loader.examples().len()
    }

    /// The bad files that were left out so far.
    pub fn skipped(&self) -> Vec<PathBuf> {
        self.files.as_ref().map_or(Vec::new(), |files| files.skipped())
    }
}

/// Says how many files were left out; `None` for none.
pub fn skipped_line(skipped: &[PathBuf]) -> Option<String> {
    let first = skipped.first()?.display();
    Some(match skipped.len() {
        1 => format!("skipped 1 bad image: {first}"),
        count => format!("skipped {count} bad images, the first {first}"),
    })
}

fn with_names(files: ImageFiles, classes: &[String]) -> Result<ImageFiles> {
    if classes.is_empty() { Ok(files) } else { files.with_classes(classes) }
}

/// The parts that an image folder is divided into.
struct Subfolders {
    train: Option<PathBuf>,
    validation: Option<PathBuf>,
    test: Option<PathBuf>,
}

/// Finds them. Without `train`, the folder has the classes themselves.
fn subfolders(root: &Path) -> Subfolders {
    let find = |names: &[&str]| names.iter().map(|name| root.join(name)).find(|folder| folder.is_dir());
    match find(&["train"]) {
        None => Subfolders { train: None, validation: None, test: None },
        train => {
            Subfolders { train, validation: find(&["val", "validation", "valid"]), test: find(&["test"]) }
        }
    }
}

fn argument(at: &str, expected: &str, got: &str) -> Error {
    Error::InvalidArgument { at: at.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}
