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

/// Sums of `dy*(x - mean)*inv_std` over the rows of `[rows, channels]`, in `splits` parts: `[splits, channels]`; `bias_grad`
/// adds the parts. Buffers: x, dy, mean, inv_std, sums.
pub fn batch_norm_grad_scale(rows: usize, rows_per_row: usize, channels: usize, splits: usize) -> Launch {
    let params = Params {
        rows: index(rows),
        rows_per_row: index(rows_per_row),
        channels: index(channels),
        splits: index(splits),
    };
    let width = width(channels);
    Launch::new(
        &files::BATCH_NORM_GRAD_SCALE,
        &params,
        WORKGROUP,
        grid_of(splits * channels / width, WORKGROUP),
    )
    .element(width == 4)
    .flops((4 * rows * channels) as u64)
    .iterations(rows.div_ceil(splits))
}
