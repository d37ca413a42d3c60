//! Bounds of activations and softmax, from the errors that Vulkan allows: 3 + 2|x| ulps for `exp(x)`, 2.5
//! ulps for a division.

use crate::conformance::compare::{HALF_ULP, MIN_NORMAL};
use crate::graph::Activation;

/// Returns the error at x, in half-ulps of the magnitudes that [`magnitudes`] returns.
fn half_ulps(activation: Activation, x: f64) -> f64 {
    let size = x.abs();
    match activation {
        // Two roundings: that of the limit, and that of the product of dy and the derivative.
        Activation::Clamp { .. } => 2.0,
        Activation::LeakyRelu { .. } => 3.0,
        // Errors of exp(-|x|), a sum and a division; the derivative multiplies two such results.
        Activation::Sigmoid => 24.0 + 8.0 * size,
        Activation::Tanh => 32.0 + 16.0 * size,
        // Errors of the polynomial fit (2 half-ulps), and of two exponentials of arguments up to x^2 / 2.
        Activation::Gelu => 40.0 + 4.0 * x * x,
        Activation::Relu6 => 2.0,
        Activation::Silu => 32.0 + 16.0 * size,
        // A sum, a product, and the rounding of 1/6; for hard swish another product.
        Activation::HardSigmoid => 4.0,
        Activation::HardSwish => 6.0,
        // The rounding of 1 + x, and the errors of a logarithm and a product, in the argument of exp; the derivative has
        // the larger exponent.
        Activation::InversePower { exponent } => {
            let exponent = exponent + 1.0;
            12.0 + 2.0 * exponent + 10.0 * exponent * x.max(0.0).ln_1p()
        }
        Activation::GeluTanh => 32.0 + 20.0 * (size + 0.05 * size * x * x),
    }
}

/// Returns, for the activation's value and for its derivative at `x`, the sum of the absolute values of the
/// terms that are added. Where terms cancel, this sum is larger than the value or derivative itself.
fn magnitudes(activation: Activation, x: f64) -> [f64; 2] {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::LeakyRelu { slope } => [x.abs() * slope.abs().max(1.0), slope.abs().max(1.0)],
        Activation::Clamp { min, max } => [x.max(min).min(max).abs(), 1.0],
        Activation::Sigmoid => [logistic(x), logistic(x) * logistic(-x)],
        Activation::Relu6 => [x.abs().min(6.0), 1.0],
        Activation::Silu => [x.abs() * logistic(x), logistic(x) + x.abs() * logistic(x) * logistic(-x)],
        Activation::HardSigmoid => [(x.abs().min(3.0) + 3.0) / 6.0, 1.0 / 6.0],
        Activation::HardSwish => {
            [x.abs() * (x.abs().min(3.0) + 3.0) / 6.0, (2.0 * x.abs().min(3.0) + 3.0) / 6.0]
        }
        Activation::InversePower { exponent } => {
            let base = 1.0 + x.max(0.0);
            [base.powf(-exponent), exponent * base.powf(-exponent - 1.0)]
        }
        Activation::Tanh => [x.tanh().abs(), 4.0 * logistic(2.0 * x) * logistic(-2.0 * x)],
        // The magnitudes are nearly equal for GELU and its tanh approximation: the value is x * cdf, the
        // derivative cdf + x * density.
        Activation::Gelu | Activation::GeluTanh => {
            let twice_u = 1.6 * (x + 0.044715 * x * x * x);
            let cdf = logistic(twice_u);
            let density = cdf * logistic(-twice_u) * 1.6 * (1.0 + 0.14 * x * x);
            // The bound adds the tail of the normal distribution, which for |x| above about 4 is larger than
            // that of the tanh approximation.
            let tail = (-0.5 * x * x).exp();
            [x.abs() * (cdf + tail), cdf + tail + x.abs() * (density + tail)]
        }
    }
}

/// The additional error at x if a driver flushes subnormal numbers to 0: of the result, and for GELU of a cdf
/// or density that is multiplied by x.
fn flushed(activation: Activation, x: f64) -> f64 {
    let factor = match activation {
        Activation::Gelu | Activation::GeluTanh | Activation::Silu => 1.0 + x.abs(),
        _ => 1.0,
    };
    factor * MIN_NORMAL
}

/// The bounds of an activation at `x`.
pub(super) fn activation(activation: Activation, x: &[f64]) -> Vec<f64> {
    x.iter()
        .map(|&x| half_ulps(activation, x) * HALF_ULP * magnitudes(activation, x)[0] + flushed(activation, x))
        .collect()
}

/// The bounds of the gradient of an activation at `x`.
pub(super) fn activation_grad(activation: Activation, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let bound = |(&x, &dy): (&f64, &f64)| {
        half_ulps(activation, x) * HALF_ULP * magnitudes(activation, x)[1] * dy.abs()
            + flushed(activation, x) * dy.abs().max(1.0)
    };
    x.iter().zip(dy).map(bound).collect()
}

/// Returns the bounds of `y`, the softmax of `x`, for rows of `classes` elements.
pub(super) fn softmax(classes: usize, x: &[f64], y: &[f64]) -> Vec<f64> {
    let row = |(x, y): (&[f64], &[f64])| {
        let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exp_half_ulps = |x: f64| 8.0 + 5.0 * (top - x);
        // Relative error of the sum: the errors of its K terms, and K half-ulps of the additions.
        let term = |(&x, &y): (&f64, &f64)| if y > 0.0 { y * exp_half_ulps(x) } else { 0.0 };
        let sum_half_ulps: f64 = x.iter().zip(y).map(term).sum::<f64>() + classes as f64;
        let bound = |(&x, &y): (&f64, &f64)| {
            (if y > 0.0 { y * (exp_half_ulps(x) + sum_half_ulps + 6.0) } else { 0.0 }) * HALF_ULP + MIN_NORMAL
        };
        x.iter().zip(y).map(bound).collect::<Vec<_>>()
    };
    x.chunks(classes).zip(y.chunks(classes)).flat_map(row).collect()
}

/// The bounds of the gradient of softmax, `y * (dy - sum(y * dy))`.
pub(super) fn softmax_grad(classes: usize, y: &[f64], dy: &[f64]) -> Vec<f64> {
    let row = |(y, dy): (&[f64], &[f64])| {
        let sum: f64 = y.iter().zip(dy).map(|(y, dy)| (y * dy).abs()).sum();
        let factor = (6.0 + (classes as f64).sqrt()) * HALF_ULP;
        y.iter().zip(dy).map(|(y, dy)| factor * y.abs() * (dy.abs() + sum)).collect::<Vec<_>>()
    };
    y.chunks(classes).zip(dy.chunks(classes)).flat_map(row).collect()
}

/// The bounds of the gradient of log-softmax, `dy - exp(y) * sum(dy)`.
pub(super) fn log_softmax_grad(classes: usize, y: &[f64], dy: &[f64]) -> Vec<f64> {
    let row = |(y, dy): (&[f64], &[f64])| {
        let sum: f64 = dy.iter().map(|dy| dy.abs()).sum();
        let bound = |(y, dy): (&f64, &f64)| {
            let product = y.exp() * sum * (12.0 + 4.0 * y.abs() + (classes as f64).sqrt());
            HALF_ULP * (2.0 * dy.abs() + product) + MIN_NORMAL
        };
        y.iter().zip(dy).map(bound).collect::<Vec<_>>()
    };
    y.chunks(classes).zip(dy.chunks(classes)).flat_map(row).collect()
}
