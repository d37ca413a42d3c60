use super::{ELEMENTWISE_WORKGROUP, GRID, Kernel, Launch, SCALARS, UPDATE, UpdateRange, grid_of, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "sgd_momentum_update",
    body: include_str!("../../shaders/sgd_momentum_update.wgsl"),
    snippets: &[&UPDATE, &SCALARS, &GRID],
    bindings: &[(6, Access::ReadWrite)],
    params: &[
        ("first", std::mem::offset_of!(Params, first)),
        ("quads", std::mem::offset_of!(Params, quads)),
        ("rate_scale", std::mem::offset_of!(Params, rate_scale)),
        ("clip_value", std::mem::offset_of!(Params, clip_value)),
        ("clip_by_norm", std::mem::offset_of!(Params, clip_by_norm)),
        ("weight_decay", std::mem::offset_of!(Params, weight_decay)),
        ("momentum", std::mem::offset_of!(Params, momentum)),
        ("nesterov", std::mem::offset_of!(Params, nesterov)),
    ],
    params_bytes: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    first: u32,
    quads: u32,
    rate_scale: f32,
    clip_value: f32,
    clip_by_norm: u32,
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

/// SGD with momentum over a range of an arena's elements. Buffers: mask, gradients, sums, weights, momentum.
pub fn sgd_momentum_update(range: &UpdateRange, rule: &SgdMomentumUpdate) -> Launch {
    let params = Params {
        first: index(range.first / 4),
        quads: index(range.elements / 4),
        rate_scale: range.rate_scale as f32,
        clip_value: range.clip_value(),
        clip_by_norm: range.clip_by_norm(),
        weight_decay: rule.weight_decay as f32,
        momentum: rule.momentum as f32,
        nesterov: rule.nesterov.into(),
    };
    let groups = grid_of(range.elements / 4, ELEMENTWISE_WORKGROUP);
    Launch::new(&KERNEL, &params, ELEMENTWISE_WORKGROUP, groups).flops(6 * range.elements as u64)
}
