//! Data sets in host memory, examples that are read when they are needed, readers of common file formats, and batches.
//!
//! A [`Dataset`] contains all its examples as `f32` features, row-major, each with a class label or a
//! regression target. [`Digits`] is a small real data set, embedded in the crate; [`idx()`], [`cifar10()`] and
//! [`cifar100()`] read files; [`synthetic`] generates random data sets of any size.
//!
//! [`Examples`] may be larger than memory: a [`Loader`] makes batches of them, which worker threads read ahead. With
//! the feature `images`, `ImageFiles` are folders and lists of PNG, JPEG and WebP files.

mod batch;
mod cifar;
#[cfg(feature = "images")]
mod decode;
mod digits;
mod examples;
mod idx;
#[cfg(feature = "images")]
mod image_files;
mod loader;
mod split;
mod synthetic;
mod transform;

pub use batch::{Batch, Batches};
pub use cifar::{cifar10, cifar100};
pub use digits::Digits;
pub use examples::Examples;
pub use idx::{idx, idx_in_memory};
#[cfg(feature = "images")]
pub use image_files::{ImageFiles, image_features};
pub use loader::{LoadedBatches, Loader};
pub use synthetic::synthetic;
pub use transform::{Augment, ImageOptions, Normalize, TransformedImages};

use crate::digest::{Digest, Fnv1a};
use crate::error::{Error, Result};
use crate::host_memory;
use crate::rng::{Purpose, Stream};
use crate::shape::Shape;
use std::fmt;

/// Examples in host memory, with a label or a target each. Never empty; every label is below
/// [`classes`](Self::classes).
#[derive(Clone, PartialEq)]
pub struct Dataset {
    name: String,
    example: Shape,
    features: Vec<f32>,
    labels: Vec<u32>,
    classes: usize,
    targets: Vec<f32>,
    target: Option<Shape>,
}

impl Dataset {
    /// Creates a classification data set of `labels.len()` examples.
    ///
    /// `example_shape` is the shape of one example (`[h, w, c]` for images); `features` is `[len,
    /// ..example_shape]`, row-major; `labels` are class numbers from 0. Features are stored unchanged, in any
    /// unit, NaN included.
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`] if `example_shape` has an extent of 0 or is too large, or `classes` is 0;
    /// - [`Error::Data`] if there are no examples;
    /// - [`Error::ShapeMismatch`] unless `features` has one example's elements for each label;
    /// - [`Error::LabelOutOfRange`] for the first label that is not below `classes`.
    pub fn new(
        name: impl Into<String>,
        example_shape: impl Into<Vec<usize>>,
        features: Vec<f32>,
        labels: Vec<u32>,
        classes: usize,
    ) -> Result<Self> {
        let name = name.into();
        let example = Shape::new(example_shape)?;
        if classes == 0 {
            return Err(Error::argument(format!("{name}: classes"), "1 or more", classes));
        }
        if labels.is_empty() {
            let why = "expected one example or more, got none".to_owned();
            return Err(Error::Data { path: name.into(), place: "labels".to_owned(), why, source: None });
        }
        let rows = labels.len();
        if rows.checked_mul(example.elements()) != Some(features.len()) {
            let expected = format!("{rows} examples of {example} ({} features each)", example.elements());
            return Err(Error::shape(name, expected, format!("{} features", features.len())));
        }
        let out_of_range = labels.iter().position(|&label| label as usize >= classes);
        if let Some(row) = out_of_range {
            return Err(Error::LabelOutOfRange { row, label: labels[row], classes });
        }
        Ok(Dataset { name, example, features, labels, classes, targets: Vec::new(), target: None })
    }

    /// Creates a regression data set, for [`crate::Loss::MeanSquaredError`]: one target per example, and no
    /// classes (all labels are 0). `targets` is `[len, ..target_shape]`, row-major.
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`] if a shape has an extent of 0 or is too large;
    /// - [`Error::Data`] if there are no examples;
    /// - [`Error::ShapeMismatch`] unless `targets` is a multiple of the target's elements, and `features` has
    ///   one example's elements for each target.
    pub fn regression(
        name: impl Into<String>,
        example_shape: impl Into<Vec<usize>>,
        features: Vec<f32>,
        target_shape: impl Into<Vec<usize>>,
        targets: Vec<f32>,
    ) -> Result<Self> {
        let name = name.into();
        let target = Shape::new(target_shape)?;
        if !targets.len().is_multiple_of(target.elements()) {
            let expected = format!("targets of {target} ({} elements each)", target.elements());
            return Err(Error::shape(name, expected, format!("{} elements", targets.len())));
        }
        let labels = vec![0; targets.len() / target.elements()];
        let data = Dataset::new(name, example_shape, features, labels, 1)?;
        Ok(Dataset { classes: 0, targets, target: Some(target), ..data })
    }

    /// Returns a data set with the same labels or targets and other features: `[len, ..example_shape]`,
    /// row-major.
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`] if `example_shape` has an extent of 0 or is too large;
    /// - [`Error::ShapeMismatch`] unless `features` has one example's elements for each label.
    pub fn with_features(&self, example_shape: impl Into<Vec<usize>>, features: Vec<f32>) -> Result<Self> {
        let labels = self.labels.clone();
        let data = Dataset::new(self.name.clone(), example_shape, features, labels, self.classes.max(1))?;
        Ok(Dataset {
            classes: self.classes,
            targets: self.targets.clone(),
            target: self.target.clone(),
            ..data
        })
    }

    /// Divides the examples at random by `seed`, class by class: returns those that stay and `fraction` of them, each
    /// in the order of the data set. A class of two examples or more has at least one in each part.
    ///
    /// ```
    /// use frazil::Digits;
    ///
    /// let (train, validation) = Digits::train()?.split(0.2, 7)?;
    /// assert_eq!((train.len(), validation.len()), (1149, 288));
    /// # Ok::<(), frazil::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless the fraction is between 0 and 1; [`Error::Data`] if no class has two
    /// examples; [`Error::HostMemory`].
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Self, Self)> {
        let [kept, held] = split::rows(&self.name, &self.labels, fraction, seed)?;
        Ok((self.rows(&kept)?, self.rows(&held)?))
    }

    /// Copies these rows.
    fn rows(&self, rows: &[usize]) -> Result<Self> {
        let copied = |all: &[f32]| -> Result<Vec<f32>> {
            let len = all.len() / self.len();
            let mut copy = host_memory::reserve(rows.len() * len, &self.name)?;
            rows.iter().for_each(|row| copy.extend_from_slice(&all[row * len..][..len]));
            Ok(copy)
        };
        Ok(Dataset {
            name: self.name.clone(),
            example: self.example.clone(),
            features: copied(&self.features)?,
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            classes: self.classes,
            targets: copied(&self.targets)?,
            target: self.target.clone(),
        })
    }

    /// Returns the data set with other features: `f` is called with the features of each example, and writes those of
    /// the new one, of the shape `example_shape`, which are zeros before.
    ///
    /// ```
    /// use frazil::Digits;
    ///
    /// let digits = Digits::test()?;
    /// let inverted = digits.map([8, 8, 1], |old, new| {
    ///     new.iter_mut().zip(old).for_each(|(new, old)| *new = 1.0 - old);
    /// })?;
    /// assert_eq!(inverted.features()[0], 1.0 - digits.features()[0]);
    /// # Ok::<(), frazil::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the shape has an extent of 0 or is too large; [`Error::HostMemory`].
    pub fn map(
        &self,
        example_shape: impl Into<Vec<usize>>,
        mut f: impl FnMut(&[f32], &mut [f32]),
    ) -> Result<Self> {
        let example_shape = example_shape.into();
        let len = Shape::new(example_shape.as_slice())?.elements();
        let all = self.len().saturating_mul(len);
        let mut features = host_memory::reserve(all, &self.name)?;
        features.resize(all, 0.0);
        let old = self.features.chunks_exact(self.example.elements());
        old.zip(features.chunks_exact_mut(len)).for_each(|(old, new)| f(old, new));
        self.with_features(example_shape, features)
    }

    /// Number of examples, 1 or more.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Always false: a data set has at least one example.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Name in reports and error messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Shape of one example, without the batch axis: `[8, 8, 1]` for the digits.
    pub fn example_shape(&self) -> &[usize] {
        self.example.extents()
    }

    /// Number of classes; 0 for regression.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// All features `[len, ..example_shape]`, row-major.
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// Shape of one target, without the batch axis; `None` for classification.
    pub fn target_shape(&self) -> Option<&[usize]> {
        self.target.as_ref().map(Shape::extents)
    }

    /// All targets `[len, ..target_shape]`, row-major; empty for classification.
    pub fn targets(&self) -> &[f32] {
        &self.targets
    }

    /// All labels `[len]`; zeros for regression.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Returns a digest of all examples, their labels or targets, and the shapes. Data sets with equal
    /// contents have equal digests, whatever their names and wherever their files are.
    pub fn digest(&self) -> u64 {
        let mut fold = Fnv1a::default();
        let target = self.target.as_ref().map(Shape::extents);
        fold.bytes(format!("{:?} {target:?} {}", self.example_shape(), self.classes).as_bytes());
        let floats = |values: &[f32]| Digest::of(values.iter().map(|value| value.to_bits()).enumerate());
        fold.digest("features", "f32", &floats(&self.features));
        fold.digest("labels", "u32", &Digest::of(self.labels.iter().copied().enumerate()));
        fold.digest("targets", "f32", &floats(&self.targets));
        fold.value()
    }

    /// Iterates over all examples once, in batches of `batch` rows, shuffled by `seed`; the last batch may be
    /// short.
    ///
    /// Equal to [`batches_for_epoch`](Self::batches_for_epoch) with epoch 0: equal seeds give equal orders.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`] if `batch` is 0.
    pub fn batches(&self, batch: usize, seed: u64) -> Result<Batches<'_>> {
        self.batches_for_epoch(batch, seed, 0)
    }

    /// Iterates over all examples once, in batches of `batch` rows, shuffled by `seed` and `epoch`; the last
    /// batch may be short.
    ///
    /// `epoch` counts from 0 and must be below 2^56, where the orders begin to repeat.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`] if `batch` is 0.
    pub fn batches_for_epoch(&self, batch: usize, seed: u64, epoch: u64) -> Result<Batches<'_>> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        Stream::new(seed, Purpose::Shuffle, epoch).shuffle(&mut order);
        Batches::new(self, batch, Some(order))
    }

    /// Iterates over all examples once, in batches of `batch` rows, in the order of the data set; the last
    /// batch may be short. For evaluation.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`] if `batch` is 0.
    pub fn in_order(&self, batch: usize) -> Result<Batches<'_>> {
        Batches::new(self, batch, None)
    }
}

impl fmt::Debug for Dataset {
    // Not derived, because the derived implementation would print every feature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("len", &self.len())
            .field("example_shape", &self.example)
            .field("classes", &self.classes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(shape: &[usize], features: usize, labels: &[u32], classes: usize) -> Result<Dataset> {
        Dataset::new("t", shape, vec![0.0; features], labels.to_vec(), classes)
    }

    #[test]
    fn accessors_return_the_constructor_arguments() {
        let data = Dataset::new("t", [2, 1], vec![1.0, 2.0, 3.0, 4.0], vec![1, 0], 2).unwrap();
        assert_eq!((data.name(), data.len(), data.is_empty(), data.classes()), ("t", 2, false, 2));
        assert_eq!(data.example_shape(), [2, 1]);
        assert_eq!((data.features(), data.labels()), (&[1.0, 2.0, 3.0, 4.0][..], &[1, 0][..]));
        assert!(format!("{data:?}").len() < 100);
    }

    #[test]
    fn digest_covers_contents_but_not_the_name() {
        let make = |name: &str, shape: [usize; 2], features: [f32; 4], labels: [u32; 2], classes| {
            Dataset::new(name, shape, features.to_vec(), labels.to_vec(), classes).unwrap().digest()
        };
        let digest = make("a", [2, 1], [1.0, 2.0, 3.0, 0.0], [1, 0], 2);
        assert_eq!(make("b", [2, 1], [1.0, 2.0, 3.0, 0.0], [1, 0], 2), digest);
        for other in [
            make("a", [1, 2], [1.0, 2.0, 3.0, 0.0], [1, 0], 2),
            make("a", [2, 1], [1.0, 2.0, 3.0, -0.0], [1, 0], 2),
            make("a", [2, 1], [2.0, 1.0, 3.0, 0.0], [1, 0], 2),
            make("a", [2, 1], [1.0, 2.0, 3.0, 0.0], [0, 1], 2),
            make("a", [2, 1], [1.0, 2.0, 3.0, 0.0], [1, 0], 3),
        ] {
            assert_ne!(other, digest);
        }
        let regression =
            |target| Dataset::regression("r", [1], vec![1.0; 2], [1], vec![0.5, target]).unwrap();
        assert_ne!(regression(0.25).digest(), regression(0.5).digest());
    }

    #[test]
    fn sizes_that_do_not_match_are_errors() {
        assert!(matches!(build(&[2, 0], 0, &[0], 1), Err(Error::InvalidArgument { .. })));
        assert!(matches!(build(&[usize::MAX, 2], 0, &[0], 1), Err(Error::InvalidArgument { .. })));
        assert!(matches!(build(&[2], 2, &[0], 0), Err(Error::InvalidArgument { .. })));
        assert!(matches!(build(&[2], 0, &[], 1), Err(Error::Data { .. })));
        assert!(matches!(build(&[2], 3, &[0], 1), Err(Error::ShapeMismatch { .. })));
        assert!(matches!(build(&[2], 5, &[0, 0], 1), Err(Error::ShapeMismatch { .. })));
    }

    #[test]
    fn first_label_out_of_range_is_reported() {
        let wrong = build(&[1], 4, &[0, 2, 3, 9], 3);
        assert!(matches!(wrong, Err(Error::LabelOutOfRange { row: 2, label: 3, classes: 3 })), "{wrong:?}");
    }
}
