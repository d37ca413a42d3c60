//! The variants of RMSprop: plain, centered, with momentum, and both. They share their parameters.

use crate::kernels::WgslFile;
use crate::kernels::update::range::UpdateRange;
use crate::kernels::{Launch, files};
use crate::wgsl::params;

params! {
    struct Rule {
        rate_scale: f32,
        weight_decay: f32,
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
    /// Coupled weight decay.
    pub weight_decay: f64,
}

/// RMSprop over a range of an arena. Buffers: gradients, mask, sums, weights, mean square.
pub fn rmsprop_update(range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    launch(&files::RMSPROP_UPDATE, range, rule)
}

/// RMSprop with momentum over a range of an arena. Buffers: gradients, mask, sums, weights, mean square,
/// momentum.
pub fn rmsprop_momentum_update(range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    launch(&files::RMSPROP_MOMENTUM_UPDATE, range, rule)
}

/// Centered RMSprop over a range of an arena. Buffers: gradients, mask, sums, weights, mean square, mean
/// gradient.
pub fn rmsprop_centered_update(range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    launch(&files::RMSPROP_CENTERED_UPDATE, range, rule)
}

/// Centered RMSprop with momentum over a range of an arena. Buffers: gradients, mask, sums, weights, mean
/// square, mean gradient, momentum.
pub fn rmsprop_centered_momentum_update(range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    launch(&files::RMSPROP_CENTERED_MOMENTUM_UPDATE, range, rule)
}

fn launch(kernel: &'static WgslFile, range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    let rule = Rule {
        rate_scale: range.rate_scale as f32,
        weight_decay: rule.weight_decay as f32,
        alpha: rule.alpha as f32,
        // Subtracted in f64: if 0.99 were rounded to f32 first, the difference would lose digits.
        one_minus_alpha: (1.0 - rule.alpha) as f32,
        epsilon: rule.epsilon as f32,
        momentum: rule.momentum as f32,
    };
    range.launch(kernel, &rule, 14)
}
