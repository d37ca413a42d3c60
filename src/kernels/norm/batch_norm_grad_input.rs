use crate::kernels::{Extent, Launch, files, grid_of, index, width};
use crate::wgsl::params;

const WORKGROUP: u32 = 256;

params! {
    struct Params {
        elements: u32,
        per_row: u32,
        channels: u32,
    }
}

/// The gradient of a batch norm in its input. Buffers: x, dy, scale, mean, inv_std, dscale, dshift, dx.
pub fn batch_norm_grad_input(extent: Extent, channels: usize) -> Launch {
    let params = Params {
        elements: index(extent.elements),
        per_row: index(extent.per_row),
        channels: index(channels),
    };
    let width = width(channels);
    Launch::new(
        &files::BATCH_NORM_GRAD_INPUT,
        &params,
        WORKGROUP,
        grid_of(extent.elements / width, WORKGROUP),
    )
    .element(width == 4)
    .flops(8 * extent.elements as u64)
}
