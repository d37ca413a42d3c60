//! Examples that are read one by one, so that a data set may be larger than memory.

use super::Dataset;
use crate::error::Result;
use std::sync::Arc;

/// Examples of one shape that are read by number, from any thread. [`Loader`](super::Loader) makes batches of them.
/// [`Dataset`] has all of them in memory; implement it for files that are decoded when they are needed.
pub trait Examples: Send + Sync {
    /// Name in error messages.
    fn name(&self) -> &str;

    /// Shape of one example, without the batch axis: `[h, w, c]` for images.
    fn example_shape(&self) -> &[usize];

    /// All labels, one for each example; zeros for regression.
    fn labels(&self) -> &[u32];

    /// Number of classes, above every label; 0 for regression.
    fn classes(&self) -> usize;

    /// Shape of one target; `None` for classification.
    fn target_shape(&self) -> Option<&[usize]> {
        None
    }

    /// Writes the features of an example into `features`, `[..example_shape]`, and its target, if there is one, into
    /// `target`, `[..target_shape]`, and returns true; returns false for an example that is to be left out.
    ///
    /// `epoch` is for random changes. Equal arguments give equal results, so that training is reproducible and can be
    /// resumed.
    ///
    /// # Errors
    /// Those of the data; they end the epoch.
    fn read(&self, index: usize, epoch: u64, features: &mut [f32], target: &mut [f32]) -> Result<bool>;

    /// Number of examples.
    fn len(&self) -> usize {
        self.labels().len()
    }

    /// Whether there are no examples.
    fn is_empty(&self) -> bool {
        self.labels().is_empty()
    }
}

impl Examples for Dataset {
    fn name(&self) -> &str {
        self.name()
    }

    fn example_shape(&self) -> &[usize] {
        self.example_shape()
    }

    fn labels(&self) -> &[u32] {
        self.labels()
    }

    fn classes(&self) -> usize {
        self.classes()
    }

    fn target_shape(&self) -> Option<&[usize]> {
        self.target_shape()
    }

    fn read(&self, index: usize, _epoch: u64, features: &mut [f32], target: &mut [f32]) -> Result<bool> {
        let of = |all: &[f32], one: &mut [f32]| one.copy_from_slice(&all[index * one.len()..][..one.len()]);
        of(self.features(), features);
        of(self.targets(), target);
        Ok(true)
    }
}

impl<T: Examples + ?Sized> Examples for Arc<T> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn example_shape(&self) -> &[usize] {
        (**self).example_shape()
    }

    fn labels(&self) -> &[u32] {
        (**self).labels()
    }

    fn classes(&self) -> usize {
        (**self).classes()
    }

    fn target_shape(&self) -> Option<&[usize]> {
        (**self).target_shape()
    }

    fn read(&self, index: usize, epoch: u64, features: &mut [f32], target: &mut [f32]) -> Result<bool> {
        (**self).read(index, epoch, features, target)
    }
}
