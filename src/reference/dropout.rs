//! Dropout.

use crate::graph::{Dropout, StepScalars};

/// `y = x / (1 - rate)` where the element is kept, else 0, a NaN included.
pub(super) fn dropout(dropout: &Dropout, step: &StepScalars, x: &[f64], y: &mut [f64]) {
    for (element, (y, &x)) in (0u32..).zip(y.iter_mut().zip(x)) {
        *y = if dropout.keeps(step.seed, step.draw, element) { x * dropout.scale() } else { 0.0 };
    }
}
