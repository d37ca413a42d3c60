//! Which elements are frozen: bits, set algebra, rules, schedules, owners.

mod choose;
mod file;
mod owners;
mod parse;
mod rule;
mod schedule;
mod slices;
mod view;

#[cfg(test)]
#[path = "tests.rs"]
mod rule_tests;

pub use owners::Owners;
pub use parse::FORMS;
pub use rule::FreezeRule;
pub use schedule::{MaskSchedule, SCHEDULE_FORMS};
pub use slices::Norm;
pub use view::TensorView;

use crate::error::{Error, Result};

/// The frozen elements of one tensor, a bit an element in the tensor's own order: **1 = frozen**, 0 = trainable.
///
/// Packed 32 to a `u32`, the first element in the lowest bit. Bits beyond the last element are 1 and are not counted.
#[derive(Clone, PartialEq, Eq)]
pub struct Mask {
    words: Vec<u32>,
    len: usize,
}

impl Mask {
    /// Nothing frozen.
    pub fn none(len: usize) -> Self {
        Mask { words: vec![0; len.div_ceil(32)], len }.with_tail()
    }

    /// Everything frozen.
    pub fn all(len: usize) -> Self {
        Mask { words: vec![u32::MAX; len.div_ceil(32)], len }
    }

    /// From one flag an element, where `true` means **frozen**.
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

    /// From one flag an element, where `true` means **trainable** (PyTorch's pruning masks: 1 = kept and trained).
    pub fn from_trainable(trainable: impl IntoIterator<Item = bool>) -> Self {
        Self::from_frozen(trainable.into_iter().map(|t| !t))
    }

    /// From packed words as [`Mask::words`] gives them, 1 = frozen.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless there are `len / 32` words, rounded up.
    pub fn from_words(words: Vec<u32>, len: usize) -> Result<Self> {
        if words.len() != len.div_ceil(32) {
            return Err(Error::argument(
                "mask words",
                format!("{} for {len} elements", len.div_ceil(32)),
                words.len(),
            ));
        }
        Ok(Mask { words, len }.with_tail())
    }

    /// Elements covered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it covers no element at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether element `index` is frozen; `false` beyond the end.
    pub fn is_frozen(&self, index: usize) -> bool {
        index < self.len && self.words[index / 32] >> (index % 32) & 1 == 1
    }

    /// Frozen elements.
    pub fn frozen_count(&self) -> usize {
        let ones: usize = self.words.iter().map(|w| w.count_ones() as usize).sum();
        ones - (self.words.len() * 32 - self.len)
    }

    /// The indices of frozen elements, ascending.
    pub fn frozen_indices(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len).filter(|&i| self.is_frozen(i))
    }

    /// The packed words, tail bits 1.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Frozen in either.
    ///
    /// # Errors
    /// [`Error::MaskMismatch`] if the lengths differ; so for the other operations of two masks.
    pub fn union(&self, other: &Mask) -> Result<Mask> {
        self.combine(other, "union", |a, b| a | b)
    }

    /// Frozen in both.
    ///
    /// # Errors
    /// As [`Mask::union`].
    pub fn intersection(&self, other: &Mask) -> Result<Mask> {
        self.combine(other, "intersection", |a, b| a & b)
    }

    /// Frozen in this one and not in `other`.
    ///
    /// # Errors
    /// As [`Mask::union`].
    pub fn difference(&self, other: &Mask) -> Result<Mask> {
        self.combine(other, "difference", |a, b| a & !b)
    }

    /// Frozen and trainable exchanged.
    pub fn complement(&self) -> Mask {
        Mask { words: self.words.iter().map(|w| !w).collect(), len: self.len }.with_tail()
    }

    fn combine(&self, other: &Mask, what: &str, f: impl Fn(u32, u32) -> u32) -> Result<Mask> {
        if self.len != other.len {
            return Err(Error::MaskMismatch { path: what.to_owned(), expected: self.len, got: other.len });
        }
        let words = self.words.iter().zip(&other.words).map(|(&a, &b)| f(a, b)).collect();
        Ok(Mask { words, len: self.len }.with_tail())
    }

    fn with_tail(mut self) -> Self {
        if let Some(last) = self.words.last_mut()
            && !self.len.is_multiple_of(32)
        {
            *last |= u32::MAX << (self.len % 32);
        }
        self
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({} of {} frozen)", self.frozen_count(), self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polarity_and_tail() {
        let m = Mask::from_frozen((0..37).map(|i| i % 3 == 0));
        assert_eq!((m.len(), m.frozen_count(), m.words().len()), (37, 13, 2));
        assert!(m.is_frozen(36) && !m.is_frozen(35) && !m.is_frozen(37));
        assert_eq!(m.words()[1] >> 5, u32::MAX >> 5);
        assert_eq!(Mask::from_trainable((0..37).map(|i| i % 3 != 0)), m);
        assert_eq!(m.complement().frozen_count(), 24);
        assert_eq!(m.complement().complement(), m);
        assert_eq!(m.frozen_indices().count(), 13);
    }

    #[test]
    fn algebra() {
        let a = Mask::from_frozen([true, true, false, false]);
        let b = Mask::from_frozen([true, false, true, false]);
        assert_eq!(a.union(&b).unwrap(), Mask::from_frozen([true, true, true, false]));
        assert_eq!(a.intersection(&b).unwrap(), Mask::from_frozen([true, false, false, false]));
        assert_eq!(a.difference(&b).unwrap(), Mask::from_frozen([false, true, false, false]));
        assert!(matches!(a.union(&Mask::none(5)), Err(Error::MaskMismatch { expected: 4, got: 5, .. })));
        assert_eq!(Mask::all(70).frozen_count(), 70);
        assert_eq!(Mask::none(64).frozen_count(), 0);
    }
}
