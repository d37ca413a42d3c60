use crate::kernels::{Extent, Launch, files, grid_of, to_u32, vector_width};
use crate::wgsl::params;

const WORKGROUP: u32 = 256;

params! {
    struct Params {
        elements: u32,
        per_example: u32,
        channels: u32,
    }
}

/// Input gradient (dX) of a batch normalization. Buffers: x, dy, scale, mean, inv_std, dscale, dshift, dx.
pub fn batch_norm_grad_input(extent: Extent, channels: usize) -> Launch {
    let params = Params {
        elements: to_u32(extent.elements),
        per_example: to_u32(extent.per_row),
        channels: to_u32(channels),
    };
    let width = vector_width(channels);
    Launch::new(
        &files::BATCH_NORM_GRAD_INPUT,
        &params,
        WORKGROUP,
        grid_of(extent.elements / width, WORKGROUP),
    )
    .channel_vectors(width == 4)
    .flops(8 * extent.elements as u64)
}
