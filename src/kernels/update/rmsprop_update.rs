//! The variants of RMSprop: plain, centered, with momentum, and both. They share their parameters.

use crate::kernels::WgslFile;
use crate::kernels::update::ranges::UpdateRanges;
use crate::kernels::{Launch, files};
use crate::wgsl::params;

params! {
    struct Rule {
        alpha: f32,
        one_minus_alpha: f32,
        epsilon: f32,
        momentum: f32,
    }
}

/// Hyperparameters of RMSprop.
#[derive(Clone, Copy, Debug)]
pub struct RmsPropUpdate {
    /// Decay of the running averages.
    pub alpha: f64,
    /// Term added to the square root.
    pub epsilon: f64,
    /// Momentum factor.
    pub momentum: f64,
}

/// RMSprop over ranges of an arena. Buffers: gradients, mask, sums, weights, mean square.
pub fn rmsprop_update(ranges: &UpdateRanges, rule: &RmsPropUpdate) -> Launch {
    launch(&files::RMSPROP_UPDATE, ranges, rule)
}

/// RMSprop with momentum over ranges of an arena. Buffers: gradients, mask, sums, weights, mean square,
/// momentum.
pub fn rmsprop_momentum_update(ranges: &UpdateRanges, rule: &RmsPropUpdate) -> Launch {
    launch(&files::RMSPROP_MOMENTUM_UPDATE, ranges, rule)
}

/// Centered RMSprop over ranges of an arena. Buffers: gradients, mask, sums, weights, mean square, mean
/// gradient.
pub fn rmsprop_centered_update(ranges: &UpdateRanges, rule: &RmsPropUpdate) -> Launch {
    launch(&files::RMSPROP_CENTERED_UPDATE, ranges, rule)
}

/// Centered RMSprop with momentum over ranges of an arena. Buffers: gradients, mask, sums, weights, mean
/// square, mean gradient, momentum.
pub fn rmsprop_centered_momentum_update(ranges: &UpdateRanges, rule: &RmsPropUpdate) -> Launch {
    launch(&files::RMSPROP_CENTERED_MOMENTUM_UPDATE, ranges, rule)
}

fn launch(kernel: &'static WgslFile, ranges: &UpdateRanges, rule: &RmsPropUpdate) -> Launch {
    let rule = Rule {
        alpha: rule.alpha as f32,
        // Subtracted in f64: if 0.99 were rounded to f32 first, the difference would lose digits.
        one_minus_alpha: (1.0 - rule.alpha) as f32,
        epsilon: rule.epsilon as f32,
        momentum: rule.momentum as f32,
    };
    ranges.launch(kernel, 14).more_params(&rule)
}
