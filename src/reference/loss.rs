//! Losses, their gradients, and accuracy.

use crate::error::{Error, Result};
use crate::graph::ElementLoss;

/// Validated labels, with the number of classes and the class weights.
pub(super) struct Labels<'a> {
    index: Vec<usize>,
    classes: usize,
    weights: Option<&'a [f64]>,
}

impl Labels<'_> {
    /// The weight of a class; 1 without class weights.
    fn weight_of(&self, class: usize) -> f64 {
        self.weights.map_or(1.0, |weights| weights[class])
    }

    /// The target distribution of a label:
    /// `t[c] = weight[c]*(smoothing/classes + (1 - smoothing)*(c == label))`.
    fn target(&self, label: usize, smoothing: f64) -> Vec<f64> {
        let uniform = smoothing / self.classes as f64;
        let mut target: Vec<f64> = (0..self.classes).map(|class| self.weight_of(class) * uniform).collect();
        target[label] += self.weight_of(label) * (1.0 - smoothing);
        target
    }

    /// The sum of the weights of all labels; their number without class weights.
    pub(super) fn weight(&self) -> f64 {
        self.index.iter().map(|&label| self.weight_of(label)).sum()
    }

    /// What the sum of the losses is divided by: the sum of the weights, or their number if all are 0.
    fn divisor(&self) -> f64 {
        Some(self.weight()).filter(|weight| *weight > 0.0).unwrap_or(self.index.len() as f64)
    }
}

/// Validates labels stored as f64.
///
/// # Errors
/// [`Error::LabelOutOfRange`] for the first label that is not below `classes`.
pub(super) fn labels<'a>(stored: &[f64], classes: usize, weights: Option<&'a [f64]>) -> Result<Labels<'a>> {
    let index: Vec<usize> = stored.iter().map(|&label| label as usize).collect();
    match index.iter().position(|&label| label >= classes) {
        None => Ok(Labels { index, classes, weights }),
        Some(row) => Err(Error::LabelOutOfRange { row, label: stored[row] as u32, classes }),
    }
}

/// The maximum logit, `exp(logit - max)` of each class, and the sum of these; subtracting the maximum avoids
/// overflow.
fn exponentials(logits: &[f64]) -> (f64, Vec<f64>, f64) {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - max).exp()).collect();
    let sum = exponentials.iter().sum();
    (max, exponentials, sum)
}

/// `loss[n] = sum over c of t[c] * (log(sum(exp(logits[n]))) - logits[n,c])`, in nats. Classes with
/// `t[c] = 0` are skipped, so that an infinite logit there does not give NaN.
pub(super) fn softmax_cross_entropy(logits: &[f64], labels: &Labels, smoothing: f64, loss: &mut [f64]) {
    for ((loss, logits), &label) in loss.iter_mut().zip(logits.chunks(labels.classes)).zip(&labels.index) {
        let (max, _, sum) = exponentials(logits);
        // Negative log-probability of a class. If any logit of the row is NaN, `sum` is NaN and so is the
        // loss.
        let cost = |logit: f64| sum.ln() + (max - logit);
        let target = labels.target(label, smoothing);
        let costs = target.iter().zip(logits).filter(|(t, _)| **t != 0.0);
        *loss = costs.map(|(t, &logit)| t * cost(logit)).sum();
    }
}

/// `dlogits[n,c] = (sum(t) * softmax(logits[n])[c] - t[c]) / (sum of the labels' weights)`, the gradient of
/// the mean loss.
pub(super) fn softmax_cross_entropy_grad(
    logits: &[f64],
    labels: &Labels,
    smoothing: f64,
    dlogits: &mut [f64],
) {
    let (classes, divisor) = (labels.classes, labels.divisor());
    for ((dlogits, logits), &label) in
        dlogits.chunks_mut(classes).zip(logits.chunks(classes)).zip(&labels.index)
    {
        let (_, exponentials, sum) = exponentials(logits);
        let target = labels.target(label, smoothing);
        let total: f64 = target.iter().sum();
        for (class, dlogit) in dlogits.iter_mut().enumerate() {
            *dlogit = (total * exponentials[class] / sum - target[class]) / divisor;
        }
    }
}

/// `loss[n] = mean of (y - target)^2` over the elements of row n.
pub(super) fn mean_squared_error(y: &[f64], targets: &[f64], loss: &mut [f64]) {
    let per_row = y.len() / loss.len();
    for ((loss, y), targets) in loss.iter_mut().zip(y.chunks(per_row)).zip(targets.chunks(per_row)) {
        *loss = y.iter().zip(targets).map(|(y, t)| (y - t).powi(2)).sum::<f64>() / per_row as f64;
    }
}

/// `dy = 2*(y - target) / elements`, the gradient of the mean over all valid elements.
pub(super) fn mean_squared_error_grad(y: &[f64], targets: &[f64], dy: &mut [f64]) {
    let elements = dy.len() as f64;
    for ((dy, y), target) in dy.iter_mut().zip(y).zip(targets) {
        *dy = 2.0 * (y - target) / elements;
    }
}

/// The loss of an element with its target.
fn loss_of(of: ElementLoss, y: f64, t: f64) -> f64 {
    match of {
        ElementLoss::Huber { threshold, slope } => {
            let d = (y - t).abs();
            if d <= threshold && threshold > 0.0 {
                0.5 * slope / threshold * d * d
            } else {
                slope * (d - 0.5 * threshold)
            }
        }
        ElementLoss::BinaryCrossEntropy { positive_weight } => {
            let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
            positive_weight * t * softplus(-y) + (1.0 - t) * softplus(y)
        }
    }
}

/// The derivative of [`loss_of`] with respect to `y`.
fn slope_of(of: ElementLoss, y: f64, t: f64) -> f64 {
    match of {
        ElementLoss::Huber { threshold, slope } => {
            let d = y - t;
            match d.abs() <= threshold {
                true if threshold > 0.0 => slope / threshold * d,
                true => 0.0,
                false if d.is_nan() => d,
                false => slope * d.signum(),
            }
        }
        ElementLoss::BinaryCrossEntropy { positive_weight } => {
            let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
            (1.0 - t) * logistic(y) - positive_weight * t * logistic(-y)
        }
    }
}

/// `loss[n] = mean of the losses` of the elements of row n.
pub(super) fn element_loss(of: ElementLoss, y: &[f64], targets: &[f64], loss: &mut [f64]) {
    let per_row = y.len() / loss.len();
    for ((loss, y), targets) in loss.iter_mut().zip(y.chunks(per_row)).zip(targets.chunks(per_row)) {
        *loss = y.iter().zip(targets).map(|(&y, &t)| loss_of(of, y, t)).sum::<f64>() / per_row as f64;
    }
}

/// `dy = slope / elements`, the gradient of the mean over all valid elements.
pub(super) fn element_loss_grad(of: ElementLoss, y: &[f64], targets: &[f64], dy: &mut [f64]) {
    let elements = dy.len() as f64;
    for ((dy, &y), &target) in dy.iter_mut().zip(y).zip(targets) {
        *dy = slope_of(of, y, target) / elements;
    }
}

/// `loss[n] = sum over c of targets[n,c] * (log(sum(exp(logits[n]))) - logits[n,c])`, in nats. Classes with a target of
/// 0 are skipped.
pub(super) fn soft_cross_entropy(logits: &[f64], targets: &[f64], loss: &mut [f64]) {
    let classes = logits.len() / loss.len();
    for ((loss, logits), targets) in loss.iter_mut().zip(logits.chunks(classes)).zip(targets.chunks(classes))
    {
        let (max, _, sum) = exponentials(logits);
        let of_classes = targets.iter().zip(logits).filter(|(t, _)| **t != 0.0);
        let total: f64 = of_classes.map(|(t, logit)| t * (sum.ln() + (max - logit))).sum();
        *loss = if sum.is_nan() { f64::NAN } else { total };
    }
}

/// `dlogits[n,c] = (sum(targets[n]) * softmax(logits[n])[c] - targets[n,c]) / rows`, the gradient of the mean loss.
pub(super) fn soft_cross_entropy_grad(classes: usize, logits: &[f64], targets: &[f64], dlogits: &mut [f64]) {
    let rows = (logits.len() / classes) as f64;
    let all = dlogits.chunks_mut(classes).zip(logits.chunks(classes)).zip(targets.chunks(classes));
    for ((dlogits, logits), targets) in all {
        let (_, exponentials, sum) = exponentials(logits);
        let total: f64 = targets.iter().sum();
        for (class, dlogit) in dlogits.iter_mut().enumerate() {
            *dlogit = (total * exponentials[class] / sum - targets[class]) / rows;
        }
    }
}

/// Returns the number of rows whose label has the largest logit, the first one if several are equal.
pub(super) fn correct(logits: &[f64], labels: &Labels) -> u64 {
    let rows = logits.chunks(labels.classes).zip(&labels.index);
    rows.filter(|&(logits, &label)| first_maximum(logits) == label).count() as u64
}

/// Returns the index of the largest element, the first one if several are equal; comparisons with NaN are
/// false.
fn first_maximum(row: &[f64]) -> usize {
    let mut best = 0;
    for (index, &x) in row.iter().enumerate() {
        if x > row[best] {
            best = index;
        }
    }
    best
}
