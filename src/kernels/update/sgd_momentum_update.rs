use crate::kernels::update::range::UpdateRange;
use crate::kernels::{Launch, files};
use crate::wgsl::params;

params! {
    struct Rule {
        rate_scale: f32,
        weight_decay: f32,
        momentum: f32,
        nesterov: u32,
    }
}

/// Hyperparameters of SGD with momentum.
#[derive(Clone, Copy, Debug)]
pub struct SgdMomentumUpdate {
    /// Momentum factor.
    pub momentum: f64,
    /// Whether to use Nesterov momentum.
    pub nesterov: bool,
    /// Coupled weight decay.
    pub weight_decay: f64,
}

/// SGD with momentum over a range of an arena. Buffers: gradients, mask, sums, weights, momentum.
pub fn sgd_momentum_update(range: &UpdateRange, rule: &SgdMomentumUpdate) -> Launch {
    let rule = Rule {
        rate_scale: range.rate_scale as f32,
        weight_decay: rule.weight_decay as f32,
        momentum: rule.momentum as f32,
        nesterov: rule.nesterov.into(),
    };
    range.launch(&files::SGD_MOMENTUM_UPDATE, &rule, 6)
}
