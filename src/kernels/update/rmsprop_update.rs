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

/// Constants of RMSprop.
#[derive(Clone, Copy, Debug)]
pub struct RmsPropUpdate {
    /// Decay of the averages.
    pub alpha: f64,
    /// Added to the root.
    pub epsilon: f64,
    /// Share of the last step kept.
    pub momentum: f64,
    /// Coupled decay.
    pub weight_decay: f64,
}

/// RMSprop over a range of an arena's elements. Buffers: gradients, mask, sums, weights, mean square.
pub fn rmsprop_update(range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    launch(&files::RMSPROP_UPDATE, range, rule)
}

pub(super) fn launch(kernel: &'static WgslFile, range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    let rule = Rule {
        rate_scale: range.rate_scale as f32,
        weight_decay: rule.weight_decay as f32,
        alpha: rule.alpha as f32,
        // In f64: 1 - 0.99 from an f32 loses digits.
        one_minus_alpha: (1.0 - rule.alpha) as f32,
        epsilon: rule.epsilon as f32,
        momentum: rule.momentum as f32,
    };
    range.launch(kernel, &rule, 14)
}
