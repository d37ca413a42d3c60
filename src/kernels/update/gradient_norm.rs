use crate::kernels::{Launch, files, grid, index};
use crate::wgsl::params;
use std::ops::Range;

const WORKGROUP: u32 = 256;

/// Enough workgroups to fill a GPU; more would only be more parts to add up.
const MAX_GROUPS: usize = 256;

params! {
    struct Params {
        first: u32,
        elements: u32,
        groups: u32,
        part: u32,
        over_all: u32,
    }
}

/// How many parts the sum over so many elements is made in.
pub fn norm_parts(elements: usize) -> usize {
    elements.div_ceil(4 * WORKGROUP as usize).clamp(1, MAX_GROUPS)
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
    Launch::new(&files::GRADIENT_NORM, &params, WORKGROUP, grid(groups, 1))
        .arena_elements(range.len())
        .flops(2 * range.len() as u64)
        .iterations(range.len().div_ceil(groups * WORKGROUP as usize) + WORKGROUP as usize)
}
