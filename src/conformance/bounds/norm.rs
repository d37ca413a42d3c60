//! Bounds of normalization.

use crate::conformance::compare::HALF_ULP;
use crate::graph::Op;

/// Half-ulps allowed for a few roundings, a division and a square root (2.5 ulps each on Vulkan).
const FEW: f64 = 16.0;

/// The bounds of each result of a batch-norm operation. `operands` contain the valid rows only.
pub(super) fn batch_norm(op: &Op, operands: &[&[f64]], results: &[&[f64]]) -> Vec<Vec<f64>> {
    match *op {
        Op::BatchStatistics { epsilon } => statistics(operands[0], results, epsilon),
        Op::BatchNorm { epsilon } => vec![normalize(operands, epsilon)],
        Op::BatchNormGradScale { epsilon } => vec![grad_scale(operands, epsilon)],
        _ => vec![grad_input(operands)],
    }
}

/// The bounds of mean, inverse standard deviation and variance. The mean has the bound of a sum, divided by
/// n. The variance has the bound of a sum of squared deviations; the error of the mean, `center`, adds a
/// first-order term with the standard deviation and a second-order term.
///
/// The bounds hold for any division of the rows into splits with at most n roundings per term. Let e_s be the
/// error of the mean m_s of split s with n_s rows, at most `center`. Merging means weights each e_s with
/// n_s / n, so their sum is at most `center`. Merging squares adds n_s (m_s - m)^2, whose error is
/// 2 n_s |m_s - m| (e_s + e) to first order; the sum over s, divided by n, is at most 2 `center` times the
/// standard deviation of the means, which is at most that of the rows.
fn statistics(x: &[f64], results: &[&[f64]], epsilon: f64) -> Vec<Vec<f64>> {
    let channels = results[0].len();
    let n = (x.len() / channels) as f64;
    let mut bounds = vec![vec![0.0; channels]; 3];
    for c in 0..channels {
        let channel = || x.iter().skip(c).step_by(channels);
        let (variance, inv_std) = (results[2][c], results[1][c]);
        let mean_magnitude = channel().map(|x| x.abs()).sum::<f64>() / n;
        let largest = channel().fold(0.0, |m: f64, x| m.max(x.abs()));
        let center = FEW * HALF_ULP * largest;
        bounds[0][c] = (FEW + n.sqrt()) * HALF_ULP * mean_magnitude;
        bounds[2][c] =
            (FEW + n.sqrt()) * HALF_ULP * variance + 2.0 * center * variance.sqrt() + center * center;
        bounds[1][c] = inv_std * (FEW * HALF_ULP + bounds[2][c] / (variance + epsilon));
    }
    bounds
}

/// The bounds of `(x - mean) * inv_std * scale + shift`. With an `epsilon`, the last operand is the variance,
/// otherwise the inverse standard deviation.
fn normalize(operands: &[&[f64]], epsilon: Option<f64>) -> Vec<f64> {
    let [x, scale, shift, mean, spread] = operands else { return Vec::new() };
    let bound = |(index, x): (usize, &f64)| {
        let c = index % scale.len();
        let normalized = (x.abs() + mean[c].abs()) * inv_std(spread[c], epsilon);
        FEW * HALF_ULP * (normalized * scale[c].abs() + shift[c].abs())
    };
    x.iter().enumerate().map(bound).collect()
}

/// Adds to the bounds of an operation's first result the errors of its operands, to first order; `None` for
/// operands that are exact.
pub(super) fn add_operand_errors(
    op: &Op,
    operands: &[&[f64]],
    errors: &[Option<&[f64]>],
    bounds: &mut [f64],
) {
    let error = |operand: usize, index: usize| errors[operand].map_or(0.0, |errors| errors[index]);
    match (op, operands) {
        // y = (x - mean)*inv_std*scale + shift
        (Op::BatchNorm { epsilon: None }, [x, scale, _, mean, inv_std]) => {
            for (index, x) in x.iter().enumerate() {
                let c = index % mean.len();
                let centered = error(3, c) * inv_std[c].abs() + (x - mean[c]).abs() * error(4, c);
                bounds[index] += scale[c].abs() * centered;
            }
        }
        // dscale = sum of dy*(x - mean)*inv_std
        (Op::BatchNormGradScale { epsilon: None }, [x, dy, mean, inv_std]) => {
            for (index, (x, dy)) in x.iter().zip(*dy).enumerate() {
                let c = index % mean.len();
                let [centered, spread] = [(x - mean[c]).abs(), inv_std[c].abs()];
                let normalized = error(2, c) * spread + centered * error(3, c);
                bounds[c] += error(1, index) * centered * spread + dy.abs() * normalized;
            }
        }
        // dx = scale*inv_std*(dy - dshift/n - (x - mean)*inv_std*dscale/n)
        (Op::BatchNormGradInput, [x, dy, scale, mean, inv_std, dscale, dshift]) => {
            let n = (x.len() / mean.len()) as f64;
            for (index, (x, dy)) in x.iter().zip(*dy).enumerate() {
                let c = index % mean.len();
                let [centered, spread, dscale] = [(x - mean[c]).abs(), inv_std[c].abs(), dscale[c].abs()];
                let inner = dy.abs() + dshift[c].abs() / n + centered * spread * dscale / n;
                let normalized = error(3, c) * spread + centered * error(4, c);
                let sums = error(6, c) / n + (centered * spread * error(5, c) + normalized * dscale) / n;
                bounds[index] += scale[c].abs() * (error(4, c) * inner + spread * (error(1, index) + sums));
            }
        }
        _ => {}
    }
}

/// The magnitude of the inverse standard deviation.
fn inv_std(spread: f64, epsilon: Option<f64>) -> f64 {
    epsilon.map_or(spread.abs(), |epsilon| 1.0 / (spread + epsilon).sqrt())
}

/// The bounds of the sum over n of `dy * (x - mean) * inv_std`. With an `epsilon`, the last operand is the
/// variance, otherwise the inverse standard deviation.
fn grad_scale(operands: &[&[f64]], epsilon: Option<f64>) -> Vec<f64> {
    let [x, dy, mean, spread] = operands else { return Vec::new() };
    let channels = mean.len();
    let n = (x.len() / channels) as f64;
    let mut sums = vec![0.0; channels];
    for (index, (x, dy)) in x.iter().zip(*dy).enumerate() {
        let c = index % channels;
        sums[c] +=
            (FEW + n.sqrt()) * HALF_ULP * dy.abs() * (x.abs() + mean[c].abs()) * inv_std(spread[c], epsilon);
    }
    sums
}

/// The bounds of `scale * inv_std * (dy - dshift / n - (x - mean) * inv_std * dscale / n)`.
fn grad_input(operands: &[&[f64]]) -> Vec<f64> {
    let [x, dy, scale, mean, inv_std, dscale, dshift] = operands else { return Vec::new() };
    let channels = mean.len();
    let n = (x.len() / channels) as f64;
    let bound = |(index, (x, dy)): (usize, (&f64, &f64))| {
        let c = index % channels;
        let normalized = (x.abs() + mean[c].abs()) * inv_std[c].abs();
        let sum = dy.abs() + dshift[c].abs() / n + normalized * dscale[c].abs() / n;
        FEW * HALF_ULP * (scale[c] * inv_std[c]).abs() * sum
    };
    x.iter().zip(*dy).enumerate().map(bound).collect()
}

/// The bounds of each set of elements normalized to mean 0 and variance 1, and of the inverse standard deviations.
pub(super) fn normalize_sets(sets: &[Vec<usize>], x: &[f64], epsilon: f64) -> Vec<Vec<f64>> {
    let mut bounds = vec![vec![0.0; x.len()], vec![0.0; sets.len()]];
    for (number, set) in sets.iter().enumerate() {
        let of_set: Vec<_> = set.iter().map(|&i| x[i]).collect();
        let n = of_set.len() as f64;
        let mean = of_set.iter().sum::<f64>() / n;
        let variance = of_set.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let inv_std = 1.0 / (variance + epsilon).sqrt();
        let of_statistics = statistics(&of_set, &[&[mean], &[inv_std], &[variance]], epsilon);
        let [center, spread] = [0, 1].map(|result: usize| of_statistics[result][0]);
        for &i in set {
            let rounding = FEW * HALF_ULP * (x[i].abs() + mean.abs()) * inv_std;
            bounds[0][i] = rounding + center * inv_std + (x[i] - mean).abs() * spread;
        }
        bounds[1][number] = spread;
    }
    bounds
}

/// The bounds of `inv_std * (dy - mean(dy) - y * mean(dy * y))` of each set of elements.
pub(super) fn normalize_sets_grad(sets: &[Vec<usize>], y: &[f64], inv_std: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut bounds = vec![0.0; y.len()];
    for (set, inv_std) in sets.iter().zip(inv_std) {
        let n = set.len() as f64;
        let mean = set.iter().map(|&i| dy[i].abs()).sum::<f64>() / n;
        let product = set.iter().map(|&i| (dy[i] * y[i]).abs()).sum::<f64>() / n;
        for &i in set {
            let sums = (FEW + n.sqrt()) * (mean + y[i].abs() * product);
            bounds[i] = HALF_ULP * inv_std.abs() * (FEW * dy[i].abs() + sums);
        }
    }
    bounds
}
