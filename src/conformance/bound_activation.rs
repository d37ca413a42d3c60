//! Bounds of activations and softmax, from the errors that Vulkan allows: `exp(x)` 3 + 2|x| ulps, division 2.5.

use super::bound::HALF_ULP;
use crate::graph::Activation;

/// Half-ulps by which a curve may err at x, relative to the size of what it is made of.
fn half_ulps(activation: Activation, x: f64) -> f64 {
    let size = x.abs();
    match activation {
        // The limit rounds, and the product of a derivative.
        Activation::Clamp { .. } => 2.0,
        Activation::LeakyRelu { .. } => 3.0,
        // exp(-|x|), a sum, a division; two of them in a derivative.
        Activation::Sigmoid => 24.0 + 8.0 * size,
        Activation::Tanh => 32.0 + 16.0 * size,
        // The fit errs by 2 half-ulps, and two exponentials of up to x^2 / 2 by their own.
        Activation::Gelu => 40.0 + 4.0 * x * x,
        Activation::GeluTanh => 32.0 + 20.0 * (size + 0.05 * size * x * x),
    }
}

/// What the value and the derivative are made of, without cancellation.
fn sizes(activation: Activation, x: f64) -> [f64; 2] {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::LeakyRelu { slope } => [x.abs() * slope.abs().max(1.0), slope.abs().max(1.0)],
        Activation::Clamp { limit } => [x.abs().min(limit), 1.0],
        Activation::Sigmoid => [logistic(x), logistic(x) * logistic(-x)],
        Activation::Tanh => [x.tanh().abs(), 4.0 * logistic(2.0 * x) * logistic(-2.0 * x)],
        // About the same for both forms: x * share, and share + x * density.
        Activation::Gelu | Activation::GeluTanh => {
            let twice_u = 1.6 * (x + 0.044715 * x * x * x);
            let share = logistic(twice_u);
            let density = share * logistic(-twice_u) * 1.6 * (1.0 + 0.14 * x * x);
            // The normal distribution's own tail is the larger of the two beyond 4, or nearly so.
            let tail = (-0.5 * x * x).exp();
            [x.abs() * (share + tail), share + tail + x.abs() * (density + tail)]
        }
    }
}

/// What is lost where a driver takes subnormal numbers for 0: the result, and before it a share and a density that x multiplies.
fn flushed(activation: Activation, x: f64) -> f64 {
    let by = match activation {
        Activation::Gelu | Activation::GeluTanh => 1.0 + x.abs(),
        Activation::LeakyRelu { .. } | Activation::Clamp { .. } | Activation::Sigmoid | Activation::Tanh => {
            1.0
        }
    };
    by * f64::from(f32::MIN_POSITIVE)
}

pub(super) fn activation(activation: Activation, x: &[f64]) -> Vec<f64> {
    x.iter()
        .map(|&x| half_ulps(activation, x) * HALF_ULP * sizes(activation, x)[0] + flushed(activation, x))
        .collect()
}

pub(super) fn activation_grad(activation: Activation, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let one = |(&x, &dy): (&f64, &f64)| {
        half_ulps(activation, x) * HALF_ULP * sizes(activation, x)[1] * dy.abs()
            + flushed(activation, x) * dy.abs().max(1.0)
    };
    x.iter().zip(dy).map(one).collect()
}

pub(super) fn softmax(classes: usize, x: &[f64], y: &[f64]) -> Vec<f64> {
    let row = |(x, y): (&[f64], &[f64])| {
        let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let of = |x: f64| 8.0 + 5.0 * (top - x);
        // The sum errs by what its terms err, and by K half-ulps of adding them.
        let of_sum: f64 = x.iter().zip(y).map(|(&x, &y)| if y > 0.0 { y * of(x) } else { 0.0 }).sum::<f64>()
            + classes as f64;
        let bound = |(&x, &y): (&f64, &f64)| {
            (if y > 0.0 { y * (of(x) + of_sum + 6.0) } else { 0.0 }) * HALF_ULP + f64::from(f32::MIN_POSITIVE)
        };
        x.iter().zip(y).map(bound).collect::<Vec<_>>()
    };
    x.chunks(classes).zip(y.chunks(classes)).flat_map(row).collect()
}

pub(super) fn softmax_grad(classes: usize, y: &[f64], dy: &[f64]) -> Vec<f64> {
    let row = |(y, dy): (&[f64], &[f64])| {
        let size: f64 = y.iter().zip(dy).map(|(y, dy)| (y * dy).abs()).sum();
        let factor = (6.0 + (classes as f64).sqrt()) * HALF_ULP;
        y.iter().zip(dy).map(|(y, dy)| factor * y.abs() * (dy.abs() + size)).collect::<Vec<_>>()
    };
    y.chunks(classes).zip(dy.chunks(classes)).flat_map(row).collect()
}
