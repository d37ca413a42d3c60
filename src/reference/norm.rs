//! Normalization. `x` is `[rows, channels]` and contains only the valid rows.

use crate::graph::{Normalization, StatisticsRule};
use crate::mask::Mask;

/// Mean, biased variance and `1/sqrt(variance + epsilon)` of each channel.
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
        let channel = || x.iter().skip(c).step_by(channels);
        mean[c] = channel().sum::<f64>() / rows;
        variance[c] = channel().map(|x| (x - mean[c]) * (x - mean[c])).sum::<f64>() / rows;
        inv_std[c] = 1.0 / (variance[c] + epsilon).sqrt();
    }
}

/// Returns `inv_std` of each channel: `spread` itself if `epsilon` is `None`, otherwise `1/sqrt(spread +
/// epsilon)`.
pub(super) fn inv_std(spread: &[f64], epsilon: Option<f64>) -> Vec<f64> {
    match epsilon {
        None => spread.to_vec(),
        Some(epsilon) => spread.iter().map(|variance| 1.0 / (variance + epsilon).sqrt()).collect(),
    }
}

/// `y = (x - mean)*inv_std*scale + shift`.
pub(super) fn normalize(
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

/// `dscale = sum of dy*(x - mean)*inv_std` over the rows.
pub(super) fn grad_scale(x: &[f64], dy: &[f64], mean: &[f64], inv_std: &[f64], dscale: &mut [f64]) {
    dscale.fill(0.0);
    for (index, (x, dy)) in x.iter().zip(dy).enumerate() {
        let c = index % mean.len();
        dscale[c] += dy * (x - mean[c]) * inv_std[c];
    }
}

/// Replaces `dy`, passed in `dx`, by the gradient with respect to x; `sums` are the gradients of scale and
/// shift.
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
        let normalized = (x - mean[c]) * inv_std[c];
        *dx = scale[c] * inv_std[c] * (*dx - sums[1][c] / rows - normalized * sums[0][c] / rows);
    }
}

/// Returns the indices of the elements of each set, of `sets` of a tensor with `elements` elements.
pub(crate) fn sets(of: &Normalization, channels: usize, elements: usize, sets: usize) -> Vec<Vec<usize>> {
    let mut found = vec![Vec::new(); sets];
    // A set has the same number of adjacent positions as every other.
    let positions = elements * of.groups / (channels * sets);
    for index in 0..elements {
        let group = index % channels / (channels / of.groups);
        found[index / channels / positions * of.groups + group].push(index);
    }
    found
}

/// `y = (x - mean)*inv_std` of each set, and its `inv_std`.
pub(super) fn normalize_sets(
    of: &Normalization,
    channels: usize,
    x: &[f64],
    y: &mut [f64],
    inv_std: &mut [f64],
) {
    for (set, inv_std) in sets(of, channels, x.len(), inv_std.len()).into_iter().zip(inv_std) {
        let n = set.len() as f64;
        let mean = set.iter().map(|&i| x[i]).sum::<f64>() / n;
        let variance = set.iter().map(|&i| (x[i] - mean) * (x[i] - mean)).sum::<f64>() / n;
        *inv_std = 1.0 / (variance + of.epsilon).sqrt();
        set.iter().for_each(|&i| y[i] = (x[i] - mean) * *inv_std);
    }
}

/// `dx = inv_std*(dy - mean(dy) - y*mean(dy*y))` of each set.
pub(super) fn normalize_sets_grad(
    sets: &[Vec<usize>],
    y: &[f64],
    inv_std: &[f64],
    dy: &[f64],
    dx: &mut [f64],
) {
    for (set, inv_std) in sets.iter().zip(inv_std) {
        let n = set.len() as f64;
        let mean = set.iter().map(|&i| dy[i]).sum::<f64>() / n;
        let product = set.iter().map(|&i| dy[i] * y[i]).sum::<f64>() / n;
        set.iter().for_each(|&i| dx[i] = inv_std * (dy[i] - mean - y[i] * product));
    }
}

/// Returns the factor that is applied to the biased batch variance before it updates the running variance:
/// Bessel's correction `n/(n-1)`, or 1 if the rule uses the biased variance or if `n` = 1.
pub(super) fn variance_factor(rule: &StatisticsRule, rows: usize) -> f64 {
    let n = (rows * rule.per_example) as f64;
    if rule.biased || n <= 1.0 { 1.0 } else { n / (n - 1.0) }
}

/// Updates the unfrozen elements of a running statistic:
/// `running = (1 - momentum)*running + momentum*factor*batch`. Unless `stores_all`, an element with a result
/// that is not finite in f32 keeps its value; returns whether there is one.
pub(super) fn update_running(
    momentum: f64,
    factor: f64,
    batch: &[f64],
    mask: &Mask,
    stores_all: bool,
    running: &mut [f64],
) -> bool {
    let mut rejected = false;
    for index in (0..running.len()).filter(|&index| !mask.is_frozen(index)) {
        let updated = (1.0 - momentum) * running[index] + momentum * (factor * batch[index]);
        if stores_all || (updated as f32).is_finite() {
            running[index] = updated;
        } else {
            rejected = true;
        }
    }
    rejected
}
