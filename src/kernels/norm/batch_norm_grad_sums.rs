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

/// The output gradient of a batch normalization, of which sums are computed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NormGradient {
    /// It is an operand.
    Stored,
    /// It is the gradient of a ReLU, which the kernel computes and stores.
    Relu,
    /// It is the gradient of a ReLU, applied to the sum of two gradients, which the kernel computes and stores.
    SumRelu,
    /// It is the gradient of the ReLU after the normalization, whose sign the kernel computes. Only in the parallel
    /// variant; the sums are followed by a copy of the shift.
    Recomputed,
}

impl NormGradient {
    fn add_to(self, mut launch: Launch) -> Launch {
        launch.snippets.push(match self {
            NormGradient::Stored => &files::NORM_GRADIENT,
            NormGradient::Relu => &files::NORM_GRADIENT_RELU,
            NormGradient::SumRelu => &files::NORM_GRADIENT_SUM_RELU,
            NormGradient::Recomputed => &files::NORM_GRADIENT_RECOMPUTED,
        });
        launch
    }
}

/// Partial gradients of scale and shift of a batch normalization: sums dy * (x - mean) * inv_std, and dy, over
/// the rows of `[rows, channels]` within each of `splits` splits. The sums are `[splits, 2, channels]`. With an
/// epsilon, the fourth buffer is a variance, from which the kernel computes inv_std. Buffers: x, dy, mean,
/// inv_std or variance, sums; with a fused ReLU gradient also the ReLU output and the result; with a fused sum
/// then the other gradient.
pub fn batch_norm_grad_sums(
    rows: usize,
    rows_per_example: usize,
    channels: usize,
    splits: usize,
    epsilon: Option<f64>,
    gradient: NormGradient,
) -> Launch {
    let params = Params {
        rows: to_u32(rows),
        rows_per_example: to_u32(rows_per_example),
        channels: to_u32(channels),
        splits: to_u32(splits),
    };
    let width = vector_width(channels);
    let groups = grid_of(splits * channels / width, WORKGROUP);
    let launch = Launch::new(&files::BATCH_NORM_GRAD_SUMS, &params, WORKGROUP, groups)
        .more_params(&InvStdParams::new(epsilon))
        .channel_vectors(width == 4)
        .flops((5 * rows * channels) as u64)
        .iterations(rows.div_ceil(splits));
    gradient.add_to(launch)
}

/// The parallel variant of [`batch_norm_grad_sums`]. Buffers for [`NormGradient::Recomputed`]: x, the gradient of the
/// ReLU's output, mean, inv_std, sums `[2 * splits + 1, channels]`, scale, shift.
pub fn batch_norm_grad_sums_parallel(
    tiles: &RowTiles,
    epsilon: Option<f64>,
    gradient: NormGradient,
) -> Launch {
    let launch = tiles.launch(&files::BATCH_NORM_GRAD_SUMS_PARALLEL, 5, 1);
    gradient.add_to(launch.more_params(&InvStdParams::new(epsilon)))
}

params! {
    struct MergeParams {
        channels: u32,
        splits: u32,
    }
}

/// Adds the splits of [`batch_norm_grad_sums`]. Buffers: sums, dscale, dshift.
pub fn batch_norm_grad_merge(channels: usize, splits: usize) -> Launch {
    let params = MergeParams { channels: to_u32(channels), splits: to_u32(splits) };
    let width = vector_width(channels);
    let groups = grid_of(channels / width, WORKGROUP);
    Launch::new(&files::BATCH_NORM_GRAD_MERGE, &params, WORKGROUP, groups)
        .channel_vectors(width == 4)
        .flops((2 * splits * channels) as u64)
        .iterations(splits)
}

/// Adds the splits of [`batch_norm_grad_sums_parallel`]. Buffers: sums, dscale, dshift.
pub fn batch_norm_grad_merge_parallel(tiles: &RowTiles) -> Launch {
    tiles.launch_merge(&files::BATCH_NORM_GRAD_MERGE_PARALLEL, 2, 1)
}
