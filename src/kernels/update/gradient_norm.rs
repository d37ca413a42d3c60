use crate::kernels::{Launch, files, grid, to_u32};
use crate::wgsl::params;
use std::ops::Range;

const WORKGROUP: u32 = 256;

/// Maximum number of workgroups: enough to occupy a GPU; more would only add partial sums.
const MAX_GROUPS: usize = 256;

params! {
    struct Params {
        first: u32,
        elements: u32,
        groups: u32,
        first_part: u32,
        over_all: u32,
    }
}

/// Number of partial sums over `elements` elements.
pub fn norm_parts(elements: usize) -> usize {
    elements.div_ceil(4 * WORKGROUP as usize).clamp(1, MAX_GROUPS)
}

/// Sums the squares of a range of gradients as [`norm_parts`] partial sums, stored from index `first_part`
/// on: over the elements that are not frozen, or over all if `over_all`. Buffers: mask, gradients, partial
/// sums.
pub fn gradient_norm(range: &Range<usize>, first_part: usize, over_all: bool) -> Launch {
    let groups = norm_parts(range.len());
    let params = Params {
        first: to_u32(range.start),
        elements: to_u32(range.len()),
        groups: to_u32(groups),
        first_part: to_u32(first_part),
        over_all: over_all.into(),
    };
    Launch::new(&files::GRADIENT_NORM, &params, WORKGROUP, grid(groups, 1))
        .arena_elements(range.len())
        .flops(2 * range.len() as u64)
        .iterations(range.len().div_ceil(groups * WORKGROUP as usize) + WORKGROUP as usize)
}
