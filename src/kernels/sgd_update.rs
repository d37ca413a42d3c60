use super::{ELEMENTWISE_WORKGROUP, GRID, Kernel, Launch, SCALARS, UPDATE, grid_of, index};
use std::ops::Range;

pub(super) static KERNEL: Kernel = Kernel {
    name: "sgd_update",
    body: include_str!("../../shaders/sgd_update.wgsl"),
    snippets: &[&UPDATE, &SCALARS, &GRID],
    bindings: &[],
    params: &[
        ("first", std::mem::offset_of!(Params, first)),
        ("quads", std::mem::offset_of!(Params, quads)),
        ("weight_decay", std::mem::offset_of!(Params, weight_decay)),
    ],
    params_bytes: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    first: u32,
    quads: u32,
    weight_decay: f32,
}

/// Plain SGD over a range of an arena's elements (multiples of 4). Buffers: mask, gradients, sums, weights.
pub fn sgd_update(range: Range<usize>, weight_decay: f64) -> Launch {
    let params = Params {
        first: index(range.start / 4),
        quads: index(range.len() / 4),
        weight_decay: weight_decay as f32,
    };
    let groups = grid_of(range.len() / 4, ELEMENTWISE_WORKGROUP);
    Launch::new(&KERNEL, &params, ELEMENTWISE_WORKGROUP, groups).flops(2 * range.len() as u64)
}
