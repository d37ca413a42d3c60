//! Activations, element by element, and softmax.

use crate::graph::Activation;

/// `y = 0` where `x <= 0`, else `x`; so a NaN stays visible.
pub(super) fn relu(x: &[f64], y: &mut [f64]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = if x <= 0.0 { 0.0 } else { x };
    }
}

/// `dx = dy` where the output `y` is above 0, else 0: no product, so a NaN in `dy` goes no further there.
pub(super) fn relu_grad(y: &[f64], dy: &[f64], dx: &mut [f64]) {
    for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
        *dx = if y > 0.0 { dy } else { 0.0 };
    }
}

/// The activation's value and derivative at x.
pub(super) fn curve(activation: Activation, x: f64) -> [f64; 2] {
    match activation {
        Activation::LeakyRelu { .. } if x > 0.0 => [x, 1.0],
        Activation::LeakyRelu { slope } => [slope * x, slope],
        Activation::Clamp { limit } => [x.clamp(-limit, limit), if x.abs() < limit { 1.0 } else { 0.0 }],
        Activation::Sigmoid => {
            let y = logistic(x);
            [y, y * logistic(-x)]
        }
        Activation::Tanh => [x.tanh(), 4.0 * logistic(2.0 * x) * logistic(-2.0 * x)],
        Activation::Gelu => {
            let below = 0.5 * erfc(-x / std::f64::consts::SQRT_2);
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            [x * below, below + x * density]
        }
        Activation::GeluTanh => {
            let factor = (8.0 / std::f64::consts::PI).sqrt();
            let twice_u = factor * (x + 0.044715 * x * x * x);
            let share = logistic(twice_u);
            let rise = factor * (1.0 + 3.0 * 0.044715 * x * x);
            [x * share, share + x * share * logistic(-twice_u) * rise]
        }
    }
}

pub(super) fn activation(activation: Activation, x: &[f64], y: &mut [f64]) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = if x.is_nan() { x } else { curve(activation, x)[0] });
}

pub(super) fn activation_grad(activation: Activation, x: &[f64], dy: &[f64], dx: &mut [f64]) {
    for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
        *dx = if x.is_nan() { x } else { dy * curve(activation, x)[1] };
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The complementary error function: near 0 by the series of erf, beyond by Legendre's continued fraction, from its end.
fn erfc(x: f64) -> f64 {
    let size = x.abs();
    let scale = 1.0 / std::f64::consts::PI.sqrt();
    if size < 2.5 {
        // erf(x) = 2/sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!: all terms have one sign.
        let (mut term, mut sum) = (size, size);
        for n in 1..80 {
            term *= 2.0 * size * size / f64::from(2 * n + 1);
            sum += term;
        }
        let erf = 2.0 * scale * (-size * size).exp() * sum;
        return if x < 0.0 { 1.0 + erf } else { 1.0 - erf };
    }
    let mut fraction = size;
    for n in (1..=120).rev() {
        fraction = size + 0.5 * f64::from(n) / fraction;
    }
    let beyond = scale * (-size * size).exp() / fraction;
    if x < 0.0 { 2.0 - beyond } else { beyond }
}

pub(super) fn softmax(classes: usize, x: &[f64], y: &mut [f64]) {
    for (y, x) in y.chunks_mut(classes).zip(x.chunks(classes)) {
        // A NaN must not be lost in a maximum.
        let poisoned = x.iter().any(|x| x.is_nan());
        let top = if poisoned { f64::NAN } else { x.iter().copied().fold(f64::NEG_INFINITY, f64::max) };
        let sum: f64 = x.iter().map(|x| (x - top).exp()).sum();
        y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - top).exp() / sum);
    }
}

pub(super) fn softmax_grad(classes: usize, y: &[f64], dy: &[f64], dx: &mut [f64]) {
    for ((dx, y), dy) in dx.chunks_mut(classes).zip(y.chunks(classes)).zip(dy.chunks(classes)) {
        let mean: f64 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
        dx.iter_mut().zip(y).zip(dy).for_each(|((dx, y), dy)| *dx = y * (dy - mean));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erfc_has_its_known_values() {
        // Abramowitz and Stegun, table 7.1, and erfc(x) + erfc(-x) = 2.
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
