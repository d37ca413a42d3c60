//! Batch norm. `x` is `[rows, channels]`, the rows in use alone.

use crate::graph::StatisticsRule;
use crate::mask::Mask;

/// The mean, the biased variance, and `1/sqrt(variance + epsilon)` of each channel.
pub(super) fn statistics(
    x: &[f64],
    epsilon: f64,
    mean: &mut [f64],
    inv_std: &mut [f64],
    variance: &mut [f64],
) {
    let channels = mean.len();
    let rows = (x.len() / channels) as f64;
    for c in 0..channels {
        let of_channel = || x.iter().skip(c).step_by(channels);
        mean[c] = of_channel().sum::<f64>() / rows;
        variance[c] = of_channel().map(|x| (x - mean[c]) * (x - mean[c])).sum::<f64>() / rows;
        inv_std[c] = 1.0 / (variance[c] + epsilon).sqrt();
    }
}

/// The spread as it is, or `1/sqrt(spread + epsilon)`.
pub(super) fn inv_std(spread: &[f64], epsilon: Option<f64>) -> Vec<f64> {
    match epsilon {
        None => spread.to_vec(),
        Some(epsilon) => spread.iter().map(|variance| 1.0 / (variance + epsilon).sqrt()).collect(),
    }
}

pub(super) fn normalise(
    x: &[f64],
    scale: &[f64],
    shift: &[f64],
    mean: &[f64],
    inv_std: &[f64],
    y: &mut [f64],
) {
    for (index, (y, x)) in y.iter_mut().zip(x).enumerate() {
        let c = index % scale.len();
        *y = (x - mean[c]) * inv_std[c] * scale[c] + shift[c];
    }
}

pub(super) fn grad_scale(x: &[f64], dy: &[f64], mean: &[f64], inv_std: &[f64], dscale: &mut [f64]) {
    dscale.fill(0.0);
    for (index, (x, dy)) in x.iter().zip(dy).enumerate() {
        let c = index % mean.len();
        dscale[c] += dy * (x - mean[c]) * inv_std[c];
    }
}

/// `dx` holds `dy`, and then the gradient of x; `sums` are the gradients of scale and shift.
pub(super) fn grad_input(
    x: &[f64],
    scale: &[f64],
    mean: &[f64],
    inv_std: &[f64],
    sums: [&[f64]; 2],
    dx: &mut [f64],
) {
    let channels = scale.len();
    let rows = (x.len() / channels) as f64;
    for (index, (dx, x)) in dx.iter_mut().zip(x).enumerate() {
        let c = index % channels;
        let normal = (x - mean[c]) * inv_std[c];
        *dx = scale[c] * inv_std[c] * (*dx - sums[1][c] / rows - normal * sums[0][c] / rows);
    }
}

/// What the batch's biased variance is multiplied by; a single value has no other variance than its own.
pub(super) fn variance_factor(rule: &StatisticsRule, rows: usize) -> f64 {
    let n = (rows * rule.per_example) as f64;
    if rule.biased || n <= 1.0 { 1.0 } else { n / (n - 1.0) }
}

/// Moves the running statistics that are not frozen.
pub(super) fn follow(momentum: f64, factor: f64, batch: &[f64], mask: &Mask, running: &mut [f64]) {
    for index in (0..running.len()).filter(|&index| !mask.is_frozen(index)) {
        running[index] = (1.0 - momentum) * running[index] + momentum * (factor * batch[index]);
    }
}
