use crate::kernels::elementwise::ELEMENTWISE_WORKGROUP;
use crate::kernels::{Launch, files, grid_of, index};
use crate::wgsl::params;
use std::ops::Range;

params! {
    struct Params {
        first: u32,
        elements: u32,
    }
}

/// Adds one tensor's gradient to the sum of its update's batches, and puts the sum in its place. Buffers: gradients, sums.
pub fn accumulate(tensor: Range<usize>) -> Launch {
    let params = Params { first: index(tensor.start), elements: index(tensor.len()) };
    let groups = grid_of(tensor.len(), ELEMENTWISE_WORKGROUP);
    Launch::new(&files::ACCUMULATE, &params, ELEMENTWISE_WORKGROUP, groups)
        .arena_elements(tensor.len())
        .flops(2 * tensor.len() as u64)
}
