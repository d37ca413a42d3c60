//! Element masks: which elements are frozen, set operations, rules, schedules and owners.

mod owners;
mod rule;
mod schedule;
mod select;
#[cfg(test)]
mod tests;

pub use owners::Owners;
pub use rule::{FreezeRule, Score};
pub use schedule::MaskSchedule;
pub use select::{Norm, TensorView};

use crate::error::{Error, Result};
use crate::host_memory;
use crate::shape::MAX_ELEMENTS;

/// Frozen elements of one tensor, one bit per element in the tensor's order: **1 = frozen**, 0 = trainable.
///
/// Packed 32 to a `u32`, the first element in the lowest bit. Bits beyond the last element are 1 and are not
/// counted.
#[derive(Clone, PartialEq, Eq)]
pub struct Mask {
    words: Vec<u32>,
    len: usize,
}

impl Mask {
    /// Mask with nothing frozen.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more than [`MAX_ELEMENTS`], which no
    /// tensor has; [`Error::HostMemory`] if there is not enough host memory.
    pub fn none(len: usize) -> Result<Self> {
        Ok(Mask { words: words(len, 0)?, len }.with_tail())
    }

    /// Mask with everything frozen.
    ///
    /// # Errors
    /// As [`Mask::none`].
    pub fn all(len: usize) -> Result<Self> {
        Ok(Mask { words: words(len, u32::MAX)?, len })
    }

    /// Mask with nothing frozen, for a tensor that is in host memory or on the device.
    pub(crate) fn none_of(len: usize) -> Self {
        Mask { words: vec![0; len.div_ceil(32)], len }.with_tail()
    }

    /// Mask from one flag per element, `true` = **frozen**.
    pub fn from_frozen(frozen: impl IntoIterator<Item = bool>) -> Self {
        let mut words = Vec::new();
        let mut len = 0;
        for flag in frozen {
            if len % 32 == 0 {
                words.push(0);
            }
            words[len / 32] |= u32::from(flag) << (len % 32);
            len += 1;
        }
        Mask { words, len }.with_tail()
    }

    /// Mask from one flag per element, `true` = **trainable**, as in PyTorch's pruning masks (1 = kept and
    /// trained).
    pub fn from_trainable(trainable: impl IntoIterator<Item = bool>) -> Self {
        Self::from_frozen(trainable.into_iter().map(|t| !t))
    }

    /// Mask from packed words, as [`Mask::words`] returns them, 1 = frozen.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless `words` has `len / 32` words, rounded up.
    pub fn from_words(words: Vec<u32>, len: usize) -> Result<Self> {
        if words.len() != len.div_ceil(32) {
            return Err(Error::argument(
                "mask words",
                format!("{} words for {len} elements", len.div_ceil(32)),
                words.len(),
            ));
        }
        Ok(Mask { words, len }.with_tail())
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the mask has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether element `index` is frozen; `false` beyond the end.
    pub fn is_frozen(&self, index: usize) -> bool {
        index < self.len && self.words[index / 32] >> (index % 32) & 1 == 1
    }

    /// Number of frozen elements.
    pub fn frozen_count(&self) -> usize {
        let ones: usize = self.words.iter().map(|w| w.count_ones() as usize).sum();
        ones - (self.words.len() * 32 - self.len)
    }

    /// Indices of the frozen elements, ascending.
    pub fn frozen_indices(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len).filter(|&i| self.is_frozen(i))
    }

    /// Packed words; bits beyond the last element are 1.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Mask of the elements that are frozen in either mask.
    ///
    /// # Errors
    /// [`Error::MaskMismatch`] if the lengths differ.
    pub fn union(&self, other: &Mask) -> Result<Mask> {
        self.combine(other, "union", |a, b| a | b)
    }

    /// Mask of the elements that are frozen in both masks.
    ///
    /// # Errors
    /// As [`Mask::union`].
    pub fn intersection(&self, other: &Mask) -> Result<Mask> {
        self.combine(other, "intersection", |a, b| a & b)
    }

    /// Mask of the elements that are frozen in this mask and not in `other`.
    ///
    /// # Errors
    /// As [`Mask::union`].
    pub fn difference(&self, other: &Mask) -> Result<Mask> {
        self.combine(other, "difference", |a, b| a & !b)
    }

    /// Mask with frozen and trainable elements exchanged.
    pub fn complement(&self) -> Mask {
        Mask { words: self.words.iter().map(|w| !w).collect(), len: self.len }.with_tail()
    }

    fn combine(&self, other: &Mask, operation: &str, f: impl Fn(u32, u32) -> u32) -> Result<Mask> {
        if self.len != other.len {
            let path = operation.to_owned();
            return Err(Error::MaskMismatch { path, expected: self.len, got: other.len });
        }
        let words = self.words.iter().zip(&other.words).map(|(&a, &b)| f(a, b)).collect();
        Ok(Mask { words, len: self.len }.with_tail())
    }

    /// Sets the bits beyond the last element to 1.
    fn with_tail(mut self) -> Self {
        if let Some(last) = self.words.last_mut()
            && !self.len.is_multiple_of(32)
        {
            *last |= u32::MAX << (self.len % 32);
        }
        self
    }
}

/// Equal words for a mask of `len` elements.
fn words(len: usize, word: u32) -> Result<Vec<u32>> {
    if len > MAX_ELEMENTS {
        return Err(Error::argument("mask", format!("at most {MAX_ELEMENTS} elements"), len));
    }
    let count = len.div_ceil(32);
    let mut words = host_memory::reserve(count, "a mask")?;
    words.resize(count, word);
    Ok(words)
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({} of {} frozen)", self.frozen_count(), self.len)
    }
}
