//! Softmax cross-entropy and accuracy, row by row.

use crate::error::{Error, Result};

/// Labels as indices, each checked to be below `classes`, with `classes` beside them.
pub(super) struct Labels {
    index: Vec<usize>,
    classes: usize,
}

/// # Errors
/// [`Error::LabelOutOfRange`] for the first label of `classes` or more.
pub(super) fn labels(stored: &[f64], classes: usize) -> Result<Labels> {
    let index: Vec<usize> = stored.iter().map(|&label| label as usize).collect();
    match index.iter().position(|&label| label >= classes) {
        None => Ok(Labels { index, classes }),
        Some(row) => Err(Error::LabelOutOfRange { row, label: stored[row] as u32, classes }),
    }
}

/// `exp(logit - max)` of each class and their sum; the maximum is subtracted so that nothing overflows.
fn exponentials(logits: &[f64]) -> (f64, Vec<f64>, f64) {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - max).exp()).collect();
    let sum = exponentials.iter().sum();
    (max, exponentials, sum)
}

/// `loss[n] = log(sum over c of exp(logits[n,c])) - logits[n, label[n]]`, in nats.
pub(super) fn softmax_cross_entropy(logits: &[f64], labels: &Labels, loss: &mut [f64]) {
    for ((loss, logits), &label) in loss.iter_mut().zip(logits.chunks(labels.classes)).zip(&labels.index) {
        let (max, _, sum) = exponentials(logits);
        *loss = sum.ln() + (max - logits[label]);
    }
}

/// `dlogits[n,c] = (softmax(logits[n])[c] - (1 if c is the label, else 0)) / rows`: of the mean loss.
pub(super) fn softmax_cross_entropy_grad(logits: &[f64], labels: &Labels, dlogits: &mut [f64]) {
    let rows = labels.index.len() as f64;
    let classes = labels.classes;
    for ((dlogits, logits), &label) in
        dlogits.chunks_mut(classes).zip(logits.chunks(classes)).zip(&labels.index)
    {
        let (_, exponentials, sum) = exponentials(logits);
        for (class, dlogit) in dlogits.iter_mut().enumerate() {
            let target = if class == label { 1.0 } else { 0.0 };
            *dlogit = (exponentials[class] / sum - target) / rows;
        }
    }
}

/// Rows whose first largest logit is the label's.
pub(super) fn correct(logits: &[f64], labels: &Labels) -> u64 {
    let rows = logits.chunks(labels.classes).zip(&labels.index);
    rows.filter(|&(logits, &label)| first_maximum(logits) == label).count() as u64
}

/// The index of the largest element, the first of equals; NaN is never larger than anything.
fn first_maximum(row: &[f64]) -> usize {
    let mut best = 0;
    for (index, &x) in row.iter().enumerate() {
        if x > row[best] {
            best = index;
        }
    }
    best
}
