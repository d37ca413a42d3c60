use crate::kernels::{Launch, RowTiles, files, grid_of, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        rows_per_example: u32,
        channels: u32,
        splits: u32,
        epsilon: f32,
    }
}

params! {
    struct MergeParams {
        epsilon: f32,
    }
}

/// Merges the splits of `batch_moments` into batch statistics. Buffers: moments, mean, inv_std, variance.
pub fn batch_statistics(
    rows: usize,
    rows_per_example: usize,
    channels: usize,
    splits: usize,
    epsilon: f64,
) -> Launch {
    let params = Params {
        rows: to_u32(rows),
        rows_per_example: to_u32(rows_per_example),
        channels: to_u32(channels),
        splits: to_u32(splits),
        epsilon: epsilon as f32,
    };
    Launch::new(&files::BATCH_STATISTICS, &params, WORKGROUP, grid_of(channels, WORKGROUP))
        .flops((8 * splits * channels) as u64)
        .iterations(splits)
}

/// Merges the splits of `batch_moments_parallel` into batch statistics. Buffers: moments, mean, inv_std,
/// variance.
pub fn batch_statistics_parallel(tiles: &RowTiles, epsilon: f64) -> Launch {
    tiles
        .launch_merge(&files::BATCH_STATISTICS_PARALLEL, 8, 2)
        .more_params(&MergeParams { epsilon: epsilon as f32 })
}
