use super::{ELEMENTWISE_WORKGROUP, GRID, Kernel, Launch, SCALARS, UPDATE, grid_of, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "sgd_momentum_update",
    body: include_str!("../../shaders/sgd_momentum_update.wgsl"),
    snippets: &[&UPDATE, &SCALARS, &GRID],
    bindings: &[(6, Access::ReadWrite)],
    params: &[
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
    quads: u32,
    weight_decay: f32,
    momentum: f32,
    nesterov: u32,
}

/// Constants of SGD with momentum.
#[derive(Clone, Copy, Debug)]
pub struct SgdMomentumUpdate {
    /// Share of the last step kept.
    pub momentum: f32,
    /// Nesterov's look-ahead.
    pub nesterov: bool,
    /// Coupled decay.
    pub weight_decay: f32,
}

/// SGD with momentum over `elements` (a multiple of 4) of an arena. Buffers: mask, gradients, sums, weights, momentum.
pub fn sgd_momentum_update(elements: usize, rule: &SgdMomentumUpdate) -> Launch {
    let params = Params {
        quads: index(elements / 4),
        weight_decay: rule.weight_decay,
        momentum: rule.momentum,
        nesterov: rule.nesterov.into(),
    };
    let groups = grid_of(elements / 4, ELEMENTWISE_WORKGROUP);
    Launch::new(&KERNEL, &params, ELEMENTWISE_WORKGROUP, groups).flops(6 * elements as u64)
}
