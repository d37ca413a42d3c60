//! Which classes are taken for which.

use std::fmt;

/// A count of examples by label (rows) and answer (columns): the class of the largest output, the first of equals; a NaN is
/// never the largest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

impl Confusion {
    pub(super) fn new(classes: usize) -> Self {
        Confusion { classes, counts: vec![0; classes * classes] }
    }

    /// Counts the rows of `outputs`, `[rows, classes]`; labels are below `classes`.
    pub(super) fn add(&mut self, outputs: &[f32], labels: &[u32]) {
        for (row, &label) in outputs.chunks_exact(self.classes).zip(labels) {
            let mut answer = 0;
            for (class, x) in row.iter().enumerate() {
                if *x > row[answer] {
                    answer = class;
                }
            }
            self.counts[label as usize * self.classes + answer] += 1;
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Examples of class `label` that were answered with `answer`; 0 for classes that there are not.
    pub fn count(&self, label: usize, answer: usize) -> u64 {
        if label.max(answer) >= self.classes { 0 } else { self.counts[label * self.classes + answer] }
    }

    /// Examples that were answered with their label.
    pub fn correct(&self) -> u64 {
        (0..self.classes).map(|class| self.count(class, class)).sum()
    }
}

impl fmt::Display for Confusion {
    /// A table with a line for each label.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.counts.iter().copied().max().unwrap_or(0).max(self.classes as u64);
        let width = most.to_string().len() + 1;
        write!(f, "label\\answer")?;
        for answer in 0..self.classes {
            write!(f, "{answer:>width$}")?;
        }
        for label in 0..self.classes {
            write!(f, "\n{label:>12}")?;
            for answer in 0..self.classes {
                write!(f, "{:>width$}", self.count(label, answer))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_labels_and_columns_answers() {
        let mut confusion = Confusion::new(3);
        let outputs = [0.0, 2.0, 1.0, 5.0, 5.0, 0.0, f32::NEG_INFINITY, -1.0, f32::NAN];
        confusion.add(&outputs, &[2, 0, 1]);
        assert_eq!((confusion.count(2, 1), confusion.count(0, 0), confusion.count(1, 1)), (1, 1, 1));
        assert_eq!((confusion.count(1, 2), confusion.count(3, 0), confusion.correct()), (0, 0, 2));
        let text = confusion.to_string();
        let expected = "label\\answer 0 1 2\n           0 1 0 0\n           1 0 1 0\n           2 0 1 0";
        assert_eq!(text, expected);
    }
}
