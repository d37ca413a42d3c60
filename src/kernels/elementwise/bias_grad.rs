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

/// Sums over the rows of `[rows, channels]`, in `splits` parts: `[splits, channels]`. `rows_per_row` rows belong to one
/// example, 0 if they do not depend on the batch. Buffers: dy, sums.
pub fn bias_grad(rows: usize, rows_per_row: usize, channels: usize, splits: usize) -> Launch {
    let params = Params {
        rows: index(rows),
        rows_per_row: index(rows_per_row),
        channels: index(channels),
        splits: index(splits),
    };
    let width = width(channels);
    Launch::new(&files::BIAS_GRAD, &params, WORKGROUP, grid_of(splits * channels / width, WORKGROUP))
        .element(width == 4)
        .flops((rows * channels) as u64)
        .iterations(rows.div_ceil(splits))
}
