//! Activations, element by element.

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
