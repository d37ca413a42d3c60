use super::{ELEMENTWISE_WORKGROUP, GRID, Kernel, Launch, SCALARS, UPDATE, UpdateRange, grid_of, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "adagrad_update",
    body: include_str!("../../shaders/adagrad_update.wgsl"),
    snippets: &[&UPDATE, &SCALARS, &GRID],
    bindings: &[(6, Access::ReadWrite)],
    params: &[
        ("first", std::mem::offset_of!(Params, first)),
        ("quads", std::mem::offset_of!(Params, quads)),
        ("rate_scale", std::mem::offset_of!(Params, rate_scale)),
        ("clip_value", std::mem::offset_of!(Params, clip_value)),
        ("clip_by_norm", std::mem::offset_of!(Params, clip_by_norm)),
        ("weight_decay", std::mem::offset_of!(Params, weight_decay)),
        ("epsilon", std::mem::offset_of!(Params, epsilon)),
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
    epsilon: f32,
}

/// Adagrad over a range of an arena's elements. Buffers: mask, gradients, sums, weights, sum of squares.
pub fn adagrad_update(range: &UpdateRange, epsilon: f64, weight_decay: f64) -> Launch {
    let params = Params {
        first: index(range.first / 4),
        quads: index(range.elements / 4),
        rate_scale: range.rate_scale as f32,
        clip_value: range.clip_value(),
        clip_by_norm: range.clip_by_norm(),
        weight_decay: weight_decay as f32,
        epsilon: epsilon as f32,
    };
    let groups = grid_of(range.elements / 4, ELEMENTWISE_WORKGROUP);
    Launch::new(&KERNEL, &params, ELEMENTWISE_WORKGROUP, groups).flops(8 * range.elements as u64)
}
