use super::{ELEMENTWISE_WORKGROUP, GRID, Kernel, Launch, SCALARS, UPDATE, grid_of, index};
use crate::gpu::Access;
use std::ops::Range;

pub(super) static KERNEL: Kernel = Kernel {
    name: "sgd_momentum_update",
    body: include_str!("../../shaders/sgd_momentum_update.wgsl"),
    snippets: &[&UPDATE, &SCALARS, &GRID],
    bindings: &[(6, Access::ReadWrite)],
    params: &[
        ("first", std::mem::offset_of!(Params, first)),
        ("quads", std::mem::offset_of!(Params, quads)),
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

/// SGD with momentum over a range of an arena's elements (multiples of 4). Buffers: mask, gradients, sums, weights, momentum.
pub fn sgd_momentum_update(range: Range<usize>, rule: &SgdMomentumUpdate) -> Launch {
    let params = Params {
        first: index(range.start / 4),
        quads: index(range.len() / 4),
        weight_decay: rule.weight_decay as f32,
        momentum: rule.momentum as f32,
        nesterov: rule.nesterov.into(),
    };
    let groups = grid_of(range.len() / 4, ELEMENTWISE_WORKGROUP);
    Launch::new(&KERNEL, &params, ELEMENTWISE_WORKGROUP, groups).flops(6 * range.len() as u64)
}
