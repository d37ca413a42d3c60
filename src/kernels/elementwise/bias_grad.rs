use crate::kernels::{Launch, files, grid_of, index, width};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        rows_per_row: u32,
        channels: u32,
        slices: u32,
    }
}

/// Sums over the rows of `[rows, channels]`, in `slices` parts: `[slices, channels]`. `rows_per_row` rows belong to one
/// example, 0 if they do not depend on the batch. Buffers: dy, sums.
pub fn bias_grad(rows: usize, rows_per_row: usize, channels: usize, slices: usize) -> Launch {
    let params = Params {
        rows: index(rows),
        rows_per_row: index(rows_per_row),
        channels: index(channels),
        slices: index(slices),
    };
    let width = width(channels);
    Launch::new(&files::BIAS_GRAD, &params, WORKGROUP, grid_of(slices * channels / width, WORKGROUP))
        .element(width == 4)
        .flops((rows * channels) as u64)
        .rounds(rows.div_ceil(slices))
}
