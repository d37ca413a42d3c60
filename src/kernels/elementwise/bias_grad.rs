use crate::kernels::{Launch, RowTiles, files, grid_of, to_u32, vector_width};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        rows_per_example: u32,
        channels: u32,
        splits: u32,
    }
}

/// Sums the rows of dy, `[rows, channels]`, within each of `splits` splits; the sums are `[splits,
/// channels]`. `rows_per_example` rows belong to one example; 0 if the rows do not depend on the batch.
/// Buffers: dy, sums.
pub fn bias_grad(rows: usize, rows_per_example: usize, channels: usize, splits: usize) -> Launch {
    let params = Params {
        rows: to_u32(rows),
        rows_per_example: to_u32(rows_per_example),
        channels: to_u32(channels),
        splits: to_u32(splits),
    };
    let width = vector_width(channels);
    Launch::new(&files::BIAS_GRAD, &params, WORKGROUP, grid_of(splits * channels / width, WORKGROUP))
        .channel_vectors(width == 4)
        .flops((rows * channels) as u64)
        .iterations(rows.div_ceil(splits))
}

/// Sums the rows of dy within each split; the sums are `[splits, channels]`. Buffers: dy, sums.
pub fn bias_grad_parallel(tiles: &RowTiles) -> Launch {
    tiles.launch(&files::BIAS_GRAD_PARALLEL, 1, 1)
}
