use super::{ELEMENTWISE_WORKGROUP, GRID, Kernel, Launch, SCALARS, grid_of, index};
use crate::gpu::Access;
use std::ops::Range;

pub(super) static KERNEL: Kernel = Kernel {
    name: "accumulate",
    body: include_str!("../../shaders/accumulate.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[(2, Access::ReadWrite), (3, Access::ReadWrite)],
    params: &[
        ("first", std::mem::offset_of!(Params, first)),
        ("elements", std::mem::offset_of!(Params, elements)),
    ],
    params_bytes: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    first: u32,
    elements: u32,
}

/// Adds one tensor's gradient to the sum of its update's batches, and puts the sum in its place. Buffers: gradients, sums.
pub fn accumulate(tensor: Range<usize>) -> Launch {
    let params = Params { first: index(tensor.start), elements: index(tensor.len()) };
    let groups = grid_of(tensor.len(), ELEMENTWISE_WORKGROUP);
    Launch::new(&KERNEL, &params, ELEMENTWISE_WORKGROUP, groups)
        .arena_elements(tensor.len())
        .flops(2 * tensor.len() as u64)
}
