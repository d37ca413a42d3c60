use crate::kernels::elementwise::ELEMENTWISE_WORKGROUP;
use crate::kernels::{Launch, files, grid_of, to_u32};
use crate::wgsl::params;
use std::ops::Range;

params! {
    struct Params {
        first: u32,
        elements: u32,
    }
}

/// Adds one tensor's gradient to its sum over the batches of the current update, and replaces the gradient by
/// the sum. Buffers: gradients, sums.
pub fn accumulate(tensor: Range<usize>) -> Launch {
    let params = Params { first: to_u32(tensor.start), elements: to_u32(tensor.len()) };
    let groups = grid_of(tensor.len(), ELEMENTWISE_WORKGROUP);
    Launch::new(&files::ACCUMULATE, &params, ELEMENTWISE_WORKGROUP, groups)
        .arena_elements(tensor.len())
        .in_place()
        .flops(2 * tensor.len() as u64)
}
