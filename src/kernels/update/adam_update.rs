use crate::kernels::update::range::UpdateRange;
use crate::kernels::{Launch, files};
use crate::wgsl::params;

params! {
    pub(super) struct Rule {
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

/// Constants of Adam and AdamW.
#[derive(Clone, Copy, Debug)]
pub struct AdamUpdate {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the corrected root.
    pub epsilon: f64,
    /// Decay of the weights.
    pub weight_decay: f64,
    /// Whether it acts on the weight itself (AdamW).
    pub decoupled: bool,
}

/// Adam over a range of an arena's elements. Buffers: gradients, mask, sums, weights, m, v.
pub fn adam_update(range: &UpdateRange, rule: &AdamUpdate) -> Launch {
    range.launch(&files::ADAM_UPDATE, &numbers(range, rule), 14)
}

pub(super) fn numbers(range: &UpdateRange, rule: &AdamUpdate) -> Rule {
    Rule {
        rate_scale: range.rate_scale as f32,
        weight_decay: rule.weight_decay as f32,
        beta1: rule.beta1 as f32,
        // In f64: 1 - 0.999 from an f32 loses four digits.
        one_minus_beta1: (1.0 - rule.beta1) as f32,
        beta2: rule.beta2 as f32,
        one_minus_beta2: (1.0 - rule.beta2) as f32,
        epsilon: rule.epsilon as f32,
        decoupled: rule.decoupled.into(),
    }
}
