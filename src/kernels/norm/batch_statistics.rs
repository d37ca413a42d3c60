use crate::kernels::{Launch, files, grid_of, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        rows_per_row: u32,
        channels: u32,
        splits: u32,
        epsilon: f32,
    }
}

/// Merges the `splits` parts of `batch_moments`. Buffers: moments, mean, inv_std, variance.
pub fn batch_statistics(
    rows: usize,
    rows_per_row: usize,
    channels: usize,
    splits: usize,
    epsilon: f64,
) -> Launch {
    let params = Params {
        rows: index(rows),
        rows_per_row: index(rows_per_row),
        channels: index(channels),
        splits: index(splits),
        epsilon: epsilon as f32,
    };
    Launch::new(&files::BATCH_STATISTICS, &params, WORKGROUP, grid_of(channels, WORKGROUP))
        .flops((8 * splits * channels) as u64)
        .iterations(splits)
}
