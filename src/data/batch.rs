//! Batches: copies of some rows of a data set.

use super::Dataset;
use crate::error::{Error, Result};
use crate::shape::Shape;
use std::iter::FusedIterator;

/// Some examples, ready to be written to a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// `[rows, ..example_shape]`, row-major, in the data set's units.
    pub features: Vec<f32>,
    /// The classes: `[rows]`; zeros where there are targets instead.
    pub labels: Vec<u32>,
    /// What outputs are to be, `[rows, ..target_shape]`, row-major; empty where there are classes.
    pub targets: Vec<f32>,
}

impl Batch {
    /// Number of examples.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }
}

/// The batches of one pass over a [`Dataset`], each example once. All have the size asked for, but the last may
/// have fewer rows; none is empty.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    data: &'a Dataset,
    /// The order of rows; `None` for that of the data set.
    order: Option<Vec<usize>>,
    batch: usize,
    done: usize,
}

impl<'a> Batches<'a> {
    pub(super) fn new(data: &'a Dataset, batch: usize, order: Option<Vec<usize>>) -> Result<Self> {
        if batch == 0 {
            return Err(Error::EmptyBatch { at: format!("batches of {}", data.name()) });
        }
        Ok(Batches { data, order, batch, done: 0 })
    }
}

impl Iterator for Batches<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        // Saturating, for a batch of usize::MAX is a way to say "all of it".
        let rows = self.done..self.done.saturating_add(self.batch).min(self.data.len());
        if rows.is_empty() {
            return None;
        }
        self.done = rows.end;
        let size = self.data.example.elements();
        let wide = self.data.target.as_ref().map_or(0, Shape::elements);
        let (features, labels) = (&self.data.features, &self.data.labels);
        let Some(order) = &self.order else {
            let values = features[rows.start * size..rows.end * size].to_vec();
            let targets = self.data.targets[rows.start * wide..rows.end * wide].to_vec();
            return Some(Batch { features: values, labels: labels[rows].to_vec(), targets });
        };
        let mut targets = Vec::with_capacity(rows.len() * wide);
        let mut values = Vec::with_capacity(rows.len() * size);
        for &row in &order[rows.clone()] {
            values.extend_from_slice(&features[row * size..][..size]);
            targets.extend_from_slice(&self.data.targets[row * wide..][..wide]);
        }
        let labels = order[rows].iter().map(|&row| labels[row]).collect();
        Some(Batch { features: values, labels, targets })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.data.len() - self.done).div_ceil(self.batch);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches<'_> {}
impl FusedIterator for Batches<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rows` examples of two features that both name their row, as the label does.
    fn numbered(rows: usize) -> Dataset {
        let features = (0..rows).flat_map(|row| [row as f32, row as f32 + 0.5]).collect();
        Dataset::new("numbered", [2], features, (0..rows as u32).collect(), rows).unwrap()
    }

    fn labels(batches: Batches<'_>) -> Vec<u32> {
        batches.flat_map(|batch| batch.labels).collect()
    }

    #[test]
    fn in_order_keeps_the_order_and_ends_short() {
        let data = numbered(10);
        let batches: Vec<_> = data.in_order(4).unwrap().collect();
        assert_eq!(batches.iter().map(Batch::rows).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!(batches[2].features, [8.0, 8.5, 9.0, 9.5]);
        assert_eq!(labels(data.in_order(4).unwrap()), data.labels());
    }

    #[test]
    fn shuffled_gives_every_example_once_with_its_label() {
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
    fn order_depends_on_seed_and_epoch_alone() {
        let data = numbered(50);
        let order = |batch, seed, epoch| labels(data.batches_for_epoch(batch, seed, epoch).unwrap());
        assert_eq!(labels(data.batches(7, 5).unwrap()), order(50, 5, 0));
        assert_ne!(order(7, 5, 0), order(7, 5, 1));
        assert_ne!(order(7, 5, 0), order(7, 6, 0));
    }

    #[test]
    fn size_is_exact_at_every_point() {
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
    fn a_batch_of_nothing_is_refused() {
        let data = numbered(2);
        assert!(matches!(data.batches(0, 1), Err(Error::EmptyBatch { .. })));
        assert!(matches!(data.batches_for_epoch(0, 1, 1), Err(Error::EmptyBatch { .. })));
        assert!(matches!(data.in_order(0), Err(Error::EmptyBatch { .. })));
    }
}
