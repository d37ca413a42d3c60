//! Bounds of losses and metrics.

use crate::conformance::compare::{HALF_ULP, MIN_NORMAL};
use crate::graph::ElementLoss;

/// The targets of a classification loss.
pub(super) struct Targets<'a> {
    pub labels: &'a [f64],
    /// Class weights.
    pub weights: Option<&'a [f64]>,
    pub smoothing: f64,
    pub classes: usize,
    /// Number of valid rows.
    pub rows: usize,
}

impl Targets<'_> {
    fn weight(&self, class: usize) -> f64 {
        self.weights.and_then(|w| w.get(class).copied()).unwrap_or(1.0)
    }

    /// The weighted, smoothed target of each class.
    fn distribution(&self, label: usize) -> Vec<f64> {
        let target = |class: usize| {
            let one_hot = if class == label { 1.0 - self.smoothing } else { 0.0 };
            self.weight(class) * (self.smoothing / self.classes as f64 + one_hot)
        };
        (0..self.classes).map(target).collect()
    }

    fn is_plain(&self) -> bool {
        self.weights.is_none() && self.smoothing == 0.0
    }

    /// The divisor of the mean loss: the sum of the labels' weights.
    fn divisor(&self) -> f64 {
        self.labels.iter().take(self.rows).map(|&label| self.weight(label as usize)).sum()
    }
}

/// The softmax of one row of logits, and its error.
struct Softmax {
    /// `logit - max` of each class.
    shifted: Vec<f64>,
    probabilities: Vec<f64>,
    /// The relative error of the sum of exponentials in half-ulps. Vulkan allows `exp(x)` an error of 3 +
    /// 2|x| ulps, and rounding x adds |x| half-ulps. Adding K positive numbers adds at most K half-ulps; the
    /// errors may not average out, because equal numbers round the same way.
    sum_half_ulps: f64,
}

fn softmax(logits: &[f64]) -> Softmax {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shifted: Vec<f64> = logits.iter().map(|l| l - max).collect();
    let sum: f64 = shifted.iter().map(|x| x.exp()).sum();
    let probabilities: Vec<f64> = shifted.iter().map(|x| x.exp() / sum).collect();
    let term = |(x, p): (&f64, &f64)| if *p > 0.0 { p * (6.0 + 5.0 * x.abs()) } else { 0.0 };
    let exponentials: f64 = shifted.iter().zip(&probabilities).map(term).sum();
    Softmax { shifted, probabilities, sum_half_ulps: exponentials + logits.len() as f64 }
}

/// The bounds of the cross-entropy of each row, the sum over classes of `t * (log(sum) + (max - logit))`: the
/// sum's relative error, 4 half-ulps of the logarithm and 2 of each other operation. Class weights, smoothing
/// and the sum over classes, whose terms are all positive, add further roundings.
pub(super) fn cross_entropy(logits: &[f64], targets: &Targets, loss: &[f64]) -> Vec<f64> {
    let rows = logits.chunks(targets.classes).zip(targets.labels).zip(loss);
    let additional = if targets.is_plain() { 0.0 } else { 8.0 + (targets.classes as f64).sqrt() };
    rows.map(|((logits, &label), &loss)| {
        let softmax = softmax(logits);
        // The largest shifted logit is 0, so log(sum of exp(x)) = -log(largest probability).
        let log_sum = softmax.probabilities.iter().copied().fold(0.0, f64::max).ln().abs();
        let terms = targets.distribution(label as usize).into_iter().zip(&softmax.shifted);
        let error = |(t, x): (f64, &f64)| t * (softmax.sum_half_ulps + 4.0 * log_sum + 2.0 * x.abs());
        let errors = terms.filter(|(t, _)| *t > 0.0).map(error).sum::<f64>();
        HALF_ULP * (errors + (2.0 + additional) * loss.abs())
    })
    .collect()
}

/// The bounds of the gradient of cross-entropy, `(total * exp(x) / sum - t) / divisor`: the errors of the
/// exponential, the sum and two divisions (2.5 ulps each), and the smallest normal f32, because smaller
/// results may be flushed to 0. With class weights or smoothing, total, target and divisor are rounded sums
/// and products as well.
pub(super) fn cross_entropy_grad(logits: &[f64], targets: &Targets, gradient: &[f64]) -> Vec<f64> {
    let mut bound = Vec::with_capacity(logits.len());
    let (classes, divisor) = (targets.classes, targets.divisor());
    let total_half_ulps = if targets.is_plain() { 0.0 } else { 4.0 + classes as f64 };
    let target_half_ulps = if targets.is_plain() { 0.0 } else { 8.0 };
    let divisor_half_ulps = if targets.weights.is_some() { targets.rows as f64 } else { 0.0 };
    let rows = logits.chunks(classes).zip(gradient.chunks(classes)).zip(targets.labels);
    for ((logits, gradient), &label) in rows {
        let Softmax { shifted, probabilities, sum_half_ulps } = softmax(logits);
        let target = targets.distribution(label as usize);
        let total: f64 = target.iter().sum();
        for (((x, probability), g), t) in shifted.iter().zip(probabilities).zip(gradient).zip(target) {
            let factor = 6.0 + 5.0 * x.abs() + sum_half_ulps + 5.0 + total_half_ulps;
            let probability_error = if probability > 0.0 { total * probability * factor } else { 0.0 };
            let quotient_error = (7.0 + divisor_half_ulps) * g.abs();
            let difference_error = (probability_error + target_half_ulps * t) / divisor;
            bound.push(HALF_ULP * (difference_error + quotient_error) + MIN_NORMAL);
        }
    }
    bound
}

/// The bound of a mean: a sum of losses, divided (2.5 ulps on Vulkan) by their number or by a sum of weights.
pub(super) fn mean(losses: &[f64], targets: Option<&Targets>) -> f64 {
    let sum: f64 = losses.iter().map(|l| l.abs()).sum();
    let root = (losses.len() as f64).sqrt();
    match targets.filter(|t| t.weights.is_some()) {
        None => (9.0 + root) * HALF_ULP * sum / losses.len() as f64,
        Some(targets) => (13.0 + 2.0 * root) * HALF_ULP * sum / targets.divisor(),
    }
}

/// The bounds of squared errors: one rounding for each difference and each square, and those of the sum of
/// `elements` squares, which are all positive.
pub(super) fn squared_error(loss: &[f64], elements: usize) -> Vec<f64> {
    loss.iter().map(|l| (8.0 + (elements as f64).sqrt()) * HALF_ULP * l.abs()).collect()
}

/// The bounds of the gradient of squared errors: a difference, a division (2.5 ulps on Vulkan) and its
/// divisor.
pub(super) fn squared_error_grad(gradient: &[f64]) -> Vec<f64> {
    gradient.iter().map(|g| 9.0 * HALF_ULP * g.abs() + MIN_NORMAL).collect()
}

/// The bounds of means of losses of elements: few roundings and an exponential (3 + 2|x| ulps) of each, and those of the
/// sum, whose terms are not negative.
pub(super) fn element_loss(of: ElementLoss, y: &[f64], targets: &[f64], per_row: usize) -> Vec<f64> {
    let error = |(&y, &t): (&f64, &f64)| match of {
        // The difference of |d| and half the threshold may cancel, and |d| has the errors of its operands.
        ElementLoss::Huber { threshold, slope } => slope * (8.0 * (y.abs() + t.abs()) + 4.0 * threshold),
        ElementLoss::BinaryCrossEntropy { positive_weight } => {
            let small = (-y.abs()).exp();
            let weights = positive_weight * t + (1.0 - t).abs();
            weights * (small * (24.0 + 4.0 * y.abs()) + 8.0 * y.abs())
        }
    };
    let magnitude = |(&y, &t): (&f64, &f64)| match of {
        ElementLoss::Huber { slope, .. } => slope * (y - t).abs(),
        ElementLoss::BinaryCrossEntropy { positive_weight } => {
            (positive_weight * t + (1.0 - t).abs()) * (y.abs() + (-y.abs()).exp())
        }
    };
    let root = 8.0 + (per_row as f64).sqrt();
    let rows = y.chunks(per_row).zip(targets.chunks(per_row));
    rows.map(|(y, t)| {
        let sum: f64 = y.iter().zip(t).map(|pair| error(pair) + root * magnitude(pair)).sum();
        HALF_ULP * sum / per_row as f64 + MIN_NORMAL
    })
    .collect()
}

/// The bounds of the gradients of losses of elements, divided by their number.
pub(super) fn element_loss_grad(of: ElementLoss, y: &[f64], targets: &[f64], elements: f64) -> Vec<f64> {
    let bound = |(&y, &t): (&f64, &f64)| {
        let error = match of {
            // Of the difference, its product with the curvature, and the division.
            ElementLoss::Huber { threshold, slope } => {
                let d = (y - t).abs();
                12.0 * if d <= threshold { slope / threshold * d } else { slope }
            }
            ElementLoss::BinaryCrossEntropy { positive_weight } => {
                let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
                let positive = (1.0 - t).abs() * logistic(y);
                (32.0 + 4.0 * y.abs()) * (positive + positive_weight * t * logistic(-y))
            }
        };
        HALF_ULP * error / elements + MIN_NORMAL
    };
    y.iter().zip(targets).map(bound).collect()
}

/// The bounds of log-softmax, `(x - max) - log(sum)`: the errors of the sum and its logarithm, and two roundings.
pub(super) fn log_softmax(x: &[f64], classes: usize) -> Vec<f64> {
    let row = |logits: &[f64]| {
        let softmax = softmax(logits);
        let log_sum = softmax.probabilities.iter().copied().fold(0.0, f64::max).ln().abs();
        let error = |x: &f64| HALF_ULP * (softmax.sum_half_ulps + 8.0 + 6.0 * log_sum + 4.0 * x.abs());
        softmax.shifted.iter().map(error).collect::<Vec<_>>()
    };
    x.chunks(classes).flat_map(row).collect()
}

/// The bounds of the cross-entropy with a target for each class: the error of each term times its target, and those of
/// the sum.
pub(super) fn soft_cross_entropy(logits: &[f64], targets: &[f64], rows: usize) -> Vec<f64> {
    let classes = logits.len() / rows;
    let terms = log_softmax(logits, classes);
    let all = logits.chunks(classes).zip(targets.chunks(classes)).zip(terms.chunks(classes));
    all.map(|((logits, targets), errors)| {
        let softmax = softmax(logits);
        let log_sum = softmax.probabilities.iter().copied().fold(0.0, f64::max).ln().abs();
        let root = 8.0 + (classes as f64).sqrt();
        let term = |((t, x), error): ((&f64, &f64), &f64)| {
            if *t == 0.0 { 0.0 } else { t.abs() * (error + root * HALF_ULP * (log_sum + x.abs())) }
        };
        targets.iter().zip(&softmax.shifted).zip(errors).map(term).sum::<f64>() + MIN_NORMAL
    })
    .collect()
}

/// The bounds of the gradient of the cross-entropy with a target for each class, as [`cross_entropy_grad`].
pub(super) fn soft_cross_entropy_grad(
    logits: &[f64],
    targets: &[f64],
    gradient: &[f64],
    classes: usize,
    rows: usize,
) -> Vec<f64> {
    let mut bound = Vec::with_capacity(logits.len());
    let all = logits.chunks(classes).zip(targets.chunks(classes)).zip(gradient.chunks(classes));
    for ((logits, targets), gradient) in all {
        let Softmax { shifted, probabilities, sum_half_ulps } = softmax(logits);
        let total: f64 = targets.iter().map(|t| t.abs()).sum();
        // An exponential below the smallest normal f32 may be flushed to 0 before it is multiplied by the total.
        let flushed = MIN_NORMAL * (1.0 + total / rows as f64);
        for (((x, probability), g), t) in shifted.iter().zip(probabilities).zip(gradient).zip(targets) {
            let factor = 11.0 + 5.0 * x.abs() + sum_half_ulps + 4.0 + classes as f64;
            let probability_error = if probability > 0.0 { total * probability * factor } else { 0.0 };
            let rounded = (probability_error + 2.0 * t.abs()) / rows as f64 + 7.0 * g.abs();
            bound.push(HALF_ULP * rounded + flushed);
        }
    }
    bound
}
