//! Batches of a data set, copied out in order or shuffled.

use super::Dataset;
use crate::error::{Error, Result};
use crate::shape::Shape;
use std::iter::FusedIterator;

/// Examples with their labels or targets, as [`Trainer::step`](crate::Trainer::step) takes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Features `[rows, ..example_shape]`, row-major, in the data set's units.
    pub features: Vec<f32>,
    /// Class labels `[rows]`; zeros for regression.
    pub labels: Vec<u32>,
    /// Regression targets `[rows, ..target_shape]`, row-major; empty for classification.
    pub targets: Vec<f32>,
}

impl Batch {
    /// Number of examples.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// Returns the batch without the examples with this label.
    pub fn without_label(&self, label: u32) -> Batch {
        self.rows_where(|row| self.labels[row] != label)
    }

    /// Returns the batch with the rows for which `keep` is true.
    pub(super) fn rows_where(&self, keep: impl Fn(usize) -> bool) -> Batch {
        let rows = self.rows().max(1);
        let [of_features, of_targets] = [&self.features, &self.targets].map(|all| all.len() / rows);
        let mut kept = Batch::default();
        for row in (0..self.rows()).filter(|&row| keep(row)) {
            kept.labels.push(self.labels[row]);
            kept.features.extend(&self.features[row * of_features..][..of_features]);
            kept.targets.extend(&self.targets[row * of_targets..][..of_targets]);
        }
        kept
    }
}

/// Iterator over the batches of one epoch of a [`Dataset`], each example once.
///
/// The last batch may have fewer rows than the others; none is empty.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    data: &'a Dataset,
    /// Row indices in the order of the epoch; `None` for the order of the data set.
    order: Option<Vec<usize>>,
    batch: usize,
    next_row: usize,
}

impl<'a> Batches<'a> {
    pub(super) fn new(data: &'a Dataset, batch: usize, order: Option<Vec<usize>>) -> Result<Self> {
        if batch == 0 {
            return Err(Error::EmptyBatch { at: format!("batches of {}", data.name()) });
        }
        Ok(Batches { data, order, batch, next_row: 0 })
    }
}

impl Iterator for Batches<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        // The addition saturates because a batch size of `usize::MAX` is valid and means the whole data set.
        let rows = self.next_row..self.next_row.saturating_add(self.batch).min(self.data.len());
        if rows.is_empty() {
            return None;
        }
        self.next_row = rows.end;
        let feature_len = self.data.example.elements();
        let target_len = self.data.target.as_ref().map_or(0, Shape::elements);
        let (features, labels) = (&self.data.features, &self.data.labels);
        let Some(order) = &self.order else {
            let features = features[rows.start * feature_len..rows.end * feature_len].to_vec();
            let targets = self.data.targets[rows.start * target_len..rows.end * target_len].to_vec();
            return Some(Batch { features, labels: labels[rows].to_vec(), targets });
        };
        let mut targets = Vec::with_capacity(rows.len() * target_len);
        let mut values = Vec::with_capacity(rows.len() * feature_len);
        for &row in &order[rows.clone()] {
            values.extend_from_slice(&features[row * feature_len..][..feature_len]);
            targets.extend_from_slice(&self.data.targets[row * target_len..][..target_len]);
        }
        let labels = order[rows].iter().map(|&row| labels[row]).collect();
        Some(Batch { features: values, labels, targets })
    }

    /// Skips `n` batches without copying them.
    fn nth(&mut self, n: usize) -> Option<Batch> {
        self.next_row = n.saturating_mul(self.batch).saturating_add(self.next_row).min(self.data.len());
        self.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.data.len() - self.next_row).div_ceil(self.batch);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches<'_> {}
impl FusedIterator for Batches<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a data set of `rows` examples. The features of an example are its row number and its row
    /// number + 0.5; its label is its row number.
    fn numbered(rows: usize) -> Dataset {
        let features = (0..rows).flat_map(|row| [row as f32, row as f32 + 0.5]).collect();
        Dataset::new("numbered", [2], features, (0..rows as u32).collect(), rows).unwrap()
    }

    fn labels(batches: Batches<'_>) -> Vec<u32> {
        batches.flat_map(|batch| batch.labels).collect()
    }

    #[test]
    fn in_order_keeps_the_order_and_shortens_the_last_batch() {
        let data = numbered(10);
        let batches: Vec<_> = data.in_order(4).unwrap().collect();
        assert_eq!(batches.iter().map(Batch::rows).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!(batches[2].features, [8.0, 8.5, 9.0, 9.5]);
        assert_eq!(labels(data.in_order(4).unwrap()), data.labels());
    }

    #[test]
    fn shuffled_batches_hold_every_example_once_with_its_label() {
        let data = numbered(101);
        for batch in data.batches(8, 3).unwrap() {
            assert_eq!(batch.features.len(), batch.rows() * 2);
            for (pair, &label) in batch.features.chunks(2).zip(&batch.labels) {
                assert_eq!(pair, [label as f32, label as f32 + 0.5]);
            }
        }
        let mut seen = labels(data.batches(8, 3).unwrap());
        assert_ne!(seen, data.labels());
        seen.sort_unstable();
        assert_eq!(seen, data.labels());
    }

    #[test]
    fn order_depends_on_seed_and_epoch_only() {
        let data = numbered(50);
        let order = |batch, seed, epoch| labels(data.batches_for_epoch(batch, seed, epoch).unwrap());
        assert_eq!(labels(data.batches(7, 5).unwrap()), order(50, 5, 0));
        assert_ne!(order(7, 5, 0), order(7, 5, 1));
        assert_ne!(order(7, 5, 0), order(7, 6, 0));
    }

    #[test]
    fn size_hint_is_exact_at_every_step() {
        let data = numbered(9);
        for (batch, count) in [(1, 9), (3, 3), (4, 3), (9, 1), (10, 1), (usize::MAX, 1)] {
            let mut batches = data.batches(batch, 0).unwrap();
            for left in (0..=count).rev() {
                assert_eq!(batches.len(), left, "batches of {batch}");
                assert_eq!(batches.next().is_some(), left > 0);
            }
            assert!(batches.next().is_none());
        }
    }

    #[test]
    fn batches_are_skipped_as_if_they_had_been_read() {
        let data = numbered(10);
        for batch in [1, 3, 4, 10, usize::MAX] {
            for skipped in [0, 1, 2, 3, 12, usize::MAX] {
                let all: Vec<_> = data.batches(batch, 7).unwrap().collect();
                let rest: Vec<_> = data.batches(batch, 7).unwrap().skip(skipped).collect();
                assert_eq!(rest, all.get(skipped..).unwrap_or_default(), "{skipped} batches of {batch}");
                assert_eq!(data.in_order(batch).unwrap().nth(skipped).is_some(), skipped < all.len());
            }
        }
    }

    #[test]
    fn batch_size_zero_is_an_error() {
        let data = numbered(2);
        assert!(matches!(data.batches(0, 1), Err(Error::EmptyBatch { .. })));
        assert!(matches!(data.batches_for_epoch(0, 1, 1), Err(Error::EmptyBatch { .. })));
        assert!(matches!(data.in_order(0), Err(Error::EmptyBatch { .. })));
    }
}
