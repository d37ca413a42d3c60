use crate::kernels::{Launch, files, grid_of, index, width};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        rows_per_row: u32,
        channels: u32,
        splits: u32,
    }
}

/// The mean of each channel of `[rows, channels]` and the sum of squares around it, in `splits` parts:
/// `[splits, 2, channels]`. `rows_per_row` rows belong to one example. Buffers: x, moments.
pub fn batch_moments(rows: usize, rows_per_row: usize, channels: usize, splits: usize) -> Launch {
    let params = Params {
        rows: index(rows),
        rows_per_row: index(rows_per_row),
        channels: index(channels),
        splits: index(splits),
    };
    let width = width(channels);
    Launch::new(&files::BATCH_MOMENTS, &params, WORKGROUP, grid_of(splits * channels / width, WORKGROUP))
        .element(width == 4)
        .flops((5 * rows * channels) as u64)
        .iterations(2 * rows.div_ceil(splits))
}
