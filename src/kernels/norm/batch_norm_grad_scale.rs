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

params! {
    struct InvStdParams {
        from_variance: u32,
        epsilon: f32,
    }
}

impl InvStdParams {
    fn new(epsilon: Option<f64>) -> Self {
        InvStdParams { from_variance: u32::from(epsilon.is_some()), epsilon: epsilon.unwrap_or(0.0) as f32 }
    }
}

/// Partial scale gradients of a batch normalization: sums dy * (x - mean) * inv_std over the rows of `[rows,
/// channels]` within each of `splits` splits. The sums are `[splits, channels]`; the kernel `bias_grad` then
/// adds the splits. With an epsilon, the fourth buffer is a variance, from which the kernel computes inv_std.
/// Buffers: x, dy, mean, inv_std or variance, sums.
pub fn batch_norm_grad_scale(
    rows: usize,
    rows_per_example: usize,
    channels: usize,
    splits: usize,
    epsilon: Option<f64>,
) -> Launch {
    let params = Params {
        rows: to_u32(rows),
        rows_per_example: to_u32(rows_per_example),
        channels: to_u32(channels),
        splits: to_u32(splits),
    };
    let width = vector_width(channels);
    Launch::new(
        &files::BATCH_NORM_GRAD_SCALE,
        &params,
        WORKGROUP,
        grid_of(splits * channels / width, WORKGROUP),
    )
    .more_params(&InvStdParams::new(epsilon))
    .channel_vectors(width == 4)
    .flops((4 * rows * channels) as u64)
    .iterations(rows.div_ceil(splits))
}

/// The parallel variant of [`batch_norm_grad_scale`]; the kernel `bias_grad_parallel` adds its splits.
/// Buffers: x, dy, mean, inv_std or variance, sums.
pub fn batch_norm_grad_scale_parallel(tiles: &RowTiles, epsilon: Option<f64>) -> Launch {
    tiles.launch(&files::BATCH_NORM_GRAD_SCALE_PARALLEL, 4, 1).more_params(&InvStdParams::new(epsilon))
}
