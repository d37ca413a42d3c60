use crate::kernels::update::ranges::UpdateRanges;
use crate::kernels::{Launch, files};
use crate::wgsl::params;

params! {
    struct Rule {
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
}

/// SGD with momentum over ranges of an arena. Buffers: gradients, mask, sums, weights, momentum.
pub fn sgd_momentum_update(ranges: &UpdateRanges, rule: &SgdMomentumUpdate) -> Launch {
    let rule = Rule { momentum: rule.momentum as f32, nesterov: rule.nesterov.into() };
    ranges.launch(&files::SGD_MOMENTUM_UPDATE, 6).more_params(&rule)
}
