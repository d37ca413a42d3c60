use super::{GRID, Kernel, Launch, SCALARS, grid, index};
use crate::gpu::Access;
use std::ops::Range;

pub(super) static KERNEL: Kernel = Kernel {
    name: "gradient_norm",
    body: include_str!("../../shaders/gradient_norm.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: &[
        ("first", std::mem::offset_of!(Params, first)),
        ("elements", std::mem::offset_of!(Params, elements)),
        ("groups", std::mem::offset_of!(Params, groups)),
        ("part", std::mem::offset_of!(Params, part)),
        ("over_all", std::mem::offset_of!(Params, over_all)),
    ],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 256;

/// Enough workgroups to fill a GPU; more would only be more parts to add up.
const MOST_GROUPS: usize = 256;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    first: u32,
    elements: u32,
    groups: u32,
    part: u32,
    over_all: u32,
}

/// How many parts the sum over so many elements is made in.
pub fn norm_parts(elements: usize) -> usize {
    elements.div_ceil(4 * WORKGROUP as usize).clamp(1, MOST_GROUPS)
}

/// Sums of squares of a range of gradients, in [`norm_parts`] parts from number `part` on. Buffers: mask, gradients, parts.
pub fn gradient_norm(range: &Range<usize>, part: usize, over_all: bool) -> Launch {
    let groups = norm_parts(range.len());
    let params = Params {
        first: index(range.start),
        elements: index(range.len()),
        groups: index(groups),
        part: index(part),
        over_all: over_all.into(),
    };
    Launch::new(&KERNEL, &params, WORKGROUP, grid(groups, 1))
        .arena_elements(range.len())
        .flops(2 * range.len() as u64)
        .rounds(range.len().div_ceil(groups * WORKGROUP as usize) + WORKGROUP as usize)
}
