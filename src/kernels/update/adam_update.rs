//! Adam, AdamW and AMSGrad. They share their parameters.

use crate::kernels::update::range::UpdateRange;
use crate::kernels::{Launch, files};
use crate::wgsl::params;

params! {
    struct Rule {
        rate_scale: f32,
        weight_decay: f32,
        beta1: f32,
        one_minus_beta1: f32,
        beta2: f32,
        one_minus_beta2: f32,
        epsilon: f32,
        decoupled: u32,
    }
}

/// Hyperparameters of Adam and AdamW.
#[derive(Clone, Copy, Debug)]
pub struct AdamUpdate {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Term added to the square root of the corrected second moment.
    pub epsilon: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether weight decay is decoupled from the gradient (AdamW).
    pub decoupled: bool,
}

/// Adam over a range of an arena. Buffers: gradients, mask, sums, weights, m, v.
pub fn adam_update(range: &UpdateRange, rule: &AdamUpdate) -> Launch {
    range.launch(&files::ADAM_UPDATE, &rule_params(range, rule), 14)
}

/// AMSGrad over a range of an arena. Buffers: gradients, mask, sums, weights, m, v, maximum of v.
pub fn amsgrad_update(range: &UpdateRange, rule: &AdamUpdate) -> Launch {
    range.launch(&files::AMSGRAD_UPDATE, &rule_params(range, rule), 15)
}

fn rule_params(range: &UpdateRange, rule: &AdamUpdate) -> Rule {
    Rule {
        rate_scale: range.rate_scale as f32,
        weight_decay: rule.weight_decay as f32,
        beta1: rule.beta1 as f32,
        // Subtracted in f64: if 0.999 were rounded to f32 first, the difference would lose four digits.
        one_minus_beta1: (1.0 - rule.beta1) as f32,
        beta2: rule.beta2 as f32,
        one_minus_beta2: (1.0 - rule.beta2) as f32,
        epsilon: rule.epsilon as f32,
        decoupled: rule.decoupled.into(),
    }
}
