use super::ELEMENTWISE_WORKGROUP;
use crate::kernels::{Extent, Launch, files, grid_of, to_u32};
use crate::wgsl::params;

params! {
    struct Params {
        elements: u32,
        per_example: u32,
        channels: u32,
        /// Elements of a for each row of b.
        elements_per_row: u32,
    }
}

/// y = a times b along the last axis; b has `rows` rows, one for all examples or one for each. Buffers: a, b, y.
pub fn mul_channels(extent: Extent, channels: usize, rows: usize) -> Launch {
    let params = Params {
        elements: to_u32(extent.elements),
        per_example: to_u32(extent.per_row),
        channels: to_u32(channels),
        elements_per_row: to_u32(extent.elements / rows),
    };
    let groups = grid_of(extent.elements.div_ceil(4), ELEMENTWISE_WORKGROUP);
    Launch::new(&files::MUL_CHANNELS, &params, ELEMENTWISE_WORKGROUP, groups).flops(extent.elements as u64)
}
