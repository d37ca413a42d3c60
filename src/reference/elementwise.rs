//! Elementwise operations, activations, softmax and dropout.

use crate::graph::{Activation, Dropout, StepScalars};

/// `y = 0` where `x <= 0`, else `x`, so that NaN gives NaN.
pub(super) fn relu(x: &[f64], y: &mut [f64]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = if x <= 0.0 { 0.0 } else { x };
    }
}

/// `dx = dy` where the output `y > 0`, else 0. A selection, not a multiplication: a NaN in `dy` does not
/// propagate where `y <= 0`.
pub(super) fn relu_grad(y: &[f64], dy: &[f64], dx: &mut [f64]) {
    for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
        *dx = if y > 0.0 { dy } else { 0.0 };
    }
}

/// Writes rows of `width` elements at `begin` into rows of `y`, of `channels` elements.
pub(super) fn write_channels(x: &[f64], width: usize, begin: usize, y: &mut [f64], channels: usize) {
    for (row, x) in y.chunks_mut(channels).zip(x.chunks(width)) {
        row[begin..begin + width].copy_from_slice(x);
    }
}

/// Value and derivative of the activation at x.
fn value_and_derivative(activation: Activation, x: f64) -> [f64; 2] {
    match activation {
        Activation::LeakyRelu { .. } if x > 0.0 => [x, 1.0],
        Activation::LeakyRelu { slope } => [slope * x, slope],
        Activation::Clamp { min, max } => [x.max(min).min(max), if min < x && x < max { 1.0 } else { 0.0 }],
        Activation::Sigmoid => {
            let y = logistic(x);
            [y, y * logistic(-x)]
        }
        Activation::Tanh => [x.tanh(), 4.0 * logistic(2.0 * x) * logistic(-2.0 * x)],
        Activation::Gelu => {
            let cdf = 0.5 * erfc(-x / std::f64::consts::SQRT_2);
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            [x * cdf, cdf + x * density]
        }
        Activation::GeluTanh => {
            // Uses the identity (1 + tanh(u)) / 2 = sigmoid(2 u).
            let factor = (8.0 / std::f64::consts::PI).sqrt();
            let two_u = factor * (x + 0.044715 * x * x * x);
            let two_u_derivative = factor * (1.0 + 3.0 * 0.044715 * x * x);
            let gate = logistic(two_u);
            [x * gate, gate + x * gate * logistic(-two_u) * two_u_derivative]
        }
        Activation::Relu6 => [x.clamp(0.0, 6.0), if 0.0 < x && x < 6.0 { 1.0 } else { 0.0 }],
        Activation::Silu => {
            let gate = logistic(x);
            // x is infinite where the product is 0 times infinity.
            let product = if x.is_infinite() { 0.0 } else { x * gate * logistic(-x) };
            [if x == f64::NEG_INFINITY { 0.0 } else { x * gate }, gate + product]
        }
        Activation::HardSigmoid => [hard_sigmoid(x), if x.abs() < 3.0 { 1.0 / 6.0 } else { 0.0 }],
        Activation::HardSwish if x.abs() < 3.0 => [x * hard_sigmoid(x), (2.0 * x + 3.0) / 6.0],
        Activation::HardSwish => {
            if x > 0.0 {
                [x, 1.0]
            } else {
                [0.0, 0.0]
            }
        }
        Activation::InversePower { .. } if x < 0.0 => [1.0, 0.0],
        Activation::InversePower { exponent } => {
            [(1.0 + x).powf(-exponent), -exponent * (1.0 + x).powf(-exponent - 1.0)]
        }
    }
}

fn hard_sigmoid(x: f64) -> f64 {
    (x + 3.0).clamp(0.0, 6.0) / 6.0
}

/// `y = activation(x)`; where x is NaN, y is NaN.
pub(super) fn activation(activation: Activation, x: &[f64], y: &mut [f64]) {
    y.iter_mut()
        .zip(x)
        .for_each(|(y, &x)| *y = if x.is_nan() { x } else { value_and_derivative(activation, x)[0] });
}

/// `dx = dy * activation'(x)`; where x is NaN, dx is NaN.
pub(super) fn activation_grad(activation: Activation, x: &[f64], dy: &[f64], dx: &mut [f64]) {
    for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
        *dx = if x.is_nan() { x } else { dy * value_and_derivative(activation, x)[1] };
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Complementary error function: for `|x| < 2.5` by the power series of erf, otherwise by Legendre's
/// continued fraction, evaluated backward.
fn erfc(x: f64) -> f64 {
    let magnitude = x.abs();
    let scale = 1.0 / std::f64::consts::PI.sqrt();
    if magnitude < 2.5 {
        // erf(x) = 2/sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!: all terms have the same sign, so they
        // do not cancel.
        let (mut term, mut sum) = (magnitude, magnitude);
        for n in 1..80 {
            term *= 2.0 * magnitude * magnitude / f64::from(2 * n + 1);
            sum += term;
        }
        let erf = 2.0 * scale * (-magnitude * magnitude).exp() * sum;
        return if x < 0.0 { 1.0 + erf } else { 1.0 - erf };
    }
    let mut fraction = magnitude;
    for n in (1..=120).rev() {
        fraction = magnitude + 0.5 * f64::from(n) / fraction;
    }
    let tail = scale * (-magnitude * magnitude).exp() / fraction;
    if x < 0.0 { 2.0 - tail } else { tail }
}

/// `y = exp(x - max) / sum(exp(x - max))` per row; a NaN makes its whole row NaN.
pub(super) fn softmax(classes: usize, x: &[f64], y: &mut [f64]) {
    for (y, x) in y.chunks_mut(classes).zip(x.chunks(classes)) {
        // `f64::max` ignores NaN, so a NaN in the row is handled separately.
        let max = if x.iter().any(|x| x.is_nan()) {
            f64::NAN
        } else {
            x.iter().copied().fold(f64::NEG_INFINITY, f64::max)
        };
        let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
        y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - max).exp() / sum);
    }
}

/// `dx = y * (dy - sum(dy * y))` per row.
pub(super) fn softmax_grad(classes: usize, y: &[f64], dy: &[f64], dx: &mut [f64]) {
    for ((dx, y), dy) in dx.chunks_mut(classes).zip(y.chunks(classes)).zip(dy.chunks(classes)) {
        let dot: f64 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
        dx.iter_mut().zip(y).zip(dy).for_each(|((dx, y), dy)| *dx = y * (dy - dot));
    }
}

/// `y = x - log(sum(exp(x)))` per row; NaN for a row with NaN or an infinite maximum.
pub(super) fn log_softmax(classes: usize, x: &[f64], y: &mut [f64]) {
    for (y, x) in y.chunks_mut(classes).zip(x.chunks(classes)) {
        let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = x.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
        y.iter_mut().zip(x).for_each(|(y, x)| {
            *y = if log_sum.is_nan() { f64::NAN } else { (x - max) - log_sum };
        });
    }
}

/// `dx = dy - exp(y) * sum(dy)` per row.
pub(super) fn log_softmax_grad(classes: usize, y: &[f64], dy: &[f64], dx: &mut [f64]) {
    for ((dx, y), dy) in dx.chunks_mut(classes).zip(y.chunks(classes)).zip(dy.chunks(classes)) {
        let sum: f64 = dy.iter().sum();
        dx.iter_mut().zip(y).zip(dy).for_each(|((dx, y), dy)| *dx = dy - y.exp() * sum);
    }
}

/// `y = x / (1 - rate)` where the element is kept, else 0, even for a NaN.
pub(super) fn dropout(dropout: &Dropout, step: &StepScalars, x: &[f64], y: &mut [f64]) {
    for (element, (y, &x)) in (0u32..).zip(y.iter_mut().zip(x)) {
        *y = if dropout.keeps(step.seed, step.draw, element) { x * dropout.scale() } else { 0.0 };
    }
}

/// `y = a + b`.
pub(super) fn add(a: &[f64], b: &[f64], y: &mut [f64]) {
    for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
        *y = a + b;
    }
}

/// `y[.., c] = a[.., c] * b[row, c]`, where each `elements_per_row` elements of a have a row of b.
pub(super) fn mul_channels(a: &[f64], b: &[f64], elements_per_row: usize, y: &mut [f64]) {
    let channels = b.len() / (a.len() / elements_per_row);
    for (index, (y, a)) in y.iter_mut().zip(a).enumerate() {
        *y = a * b[index / elements_per_row * channels + index % channels];
    }
}

/// `y = a * b`.
pub(super) fn mul(a: &[f64], b: &[f64], y: &mut [f64]) {
    for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
        *y = a * b;
    }
}

/// `y = factor * x`.
pub(super) fn scale(factor: f64, x: &[f64], y: &mut [f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = factor * x;
    }
}

/// `dx = 1 / elements`, the gradient of the mean over all valid elements.
pub(super) fn mean_grad(dx: &mut [f64]) {
    let elements = dx.len() as f64;
    dx.fill(1.0 / elements);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erfc_matches_tables_and_its_reflection_formula() {
        // Expected values from Abramowitz and Stegun, table 7.1; those for negative x from erfc(x) + erfc(-x)
        // = 2.
        for (x, value) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (3.0, 2.209_049_699_858_544e-5),
        ] {
            assert!((erfc(x) / value - 1.0).abs() < 1e-13, "{x}");
            assert!((erfc(x) + erfc(-x) - 2.0).abs() < 1e-15, "{x}");
        }
        assert!((erfc(2.499_999_999_999) / erfc(2.5) - 1.0).abs() < 1e-10);
    }
}
