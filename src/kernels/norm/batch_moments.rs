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

/// Mean of each channel of `[rows, channels]` and sum of squared deviations from it, for each of `splits`
/// splits of the rows; the result is `[splits, 2, channels]`. `rows_per_example` rows belong to one example.
/// Buffers: x, moments.
pub fn batch_moments(rows: usize, rows_per_example: usize, channels: usize, splits: usize) -> Launch {
    let params = Params {
        rows: to_u32(rows),
        rows_per_example: to_u32(rows_per_example),
        channels: to_u32(channels),
        splits: to_u32(splits),
    };
    let width = vector_width(channels);
    Launch::new(&files::BATCH_MOMENTS, &params, WORKGROUP, grid_of(splits * channels / width, WORKGROUP))
        .channel_vectors(width == 4)
        .flops((5 * rows * channels) as u64)
        .iterations(2 * rows.div_ceil(splits))
}

/// The parallel variant of [`batch_moments`]. Buffers: x, moments.
pub fn batch_moments_parallel(tiles: &RowTiles) -> Launch {
    tiles.launch(&files::BATCH_MOMENTS_PARALLEL, 5, 2)
}
