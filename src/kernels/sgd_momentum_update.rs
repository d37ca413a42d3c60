use super::update_range::Range;
use super::{GRID, Kernel, Launch, SCALARS, UPDATE, UpdateRange};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "sgd_momentum_update",
    body: include_str!("../../shaders/sgd_momentum_update.wgsl"),
    snippets: &[&UPDATE, &SCALARS, &GRID],
    bindings: &[(10, Access::ReadWrite)],
    params: &[
        ("first", std::mem::offset_of!(Params, range.first)),
        ("quads", std::mem::offset_of!(Params, range.quads)),
        ("clip_value", std::mem::offset_of!(Params, range.clip_value)),
        ("clip_by_norm", std::mem::offset_of!(Params, range.clip_by_norm)),
        ("rule.rate_scale", std::mem::offset_of!(Params, rule.rate_scale)),
        ("rule.weight_decay", std::mem::offset_of!(Params, rule.weight_decay)),
        ("rule.momentum", std::mem::offset_of!(Params, rule.momentum)),
        ("rule.nesterov", std::mem::offset_of!(Params, rule.nesterov)),
    ],
    params_bytes: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    range: Range,
    rule: Rule,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Rule {
    rate_scale: f32,
    weight_decay: f32,
    momentum: f32,
    nesterov: u32,
}

/// Constants of SGD with momentum.
#[derive(Clone, Copy, Debug)]
pub struct SgdMomentumUpdate {
    /// Share of the last step kept.
    pub momentum: f64,
    /// Nesterov's look-ahead.
    pub nesterov: bool,
    /// Coupled decay.
    pub weight_decay: f64,
}

/// SGD with momentum over a range of an arena's elements. Buffers: gradients, mask, sums, weights, momentum.
pub fn sgd_momentum_update(range: &UpdateRange, rule: &SgdMomentumUpdate) -> Launch {
    let rule = Rule {
        rate_scale: range.rate_scale as f32,
        weight_decay: rule.weight_decay as f32,
        momentum: rule.momentum as f32,
        nesterov: rule.nesterov.into(),
    };
    range.launch(&KERNEL, &rule, 6)
}
