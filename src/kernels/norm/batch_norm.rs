use crate::kernels::{Extent, Launch, RowTiles, constant_bool, files, grid_of, to_u32, vector_width};
use crate::wgsl::params;

const WORKGROUP: u32 = 256;

params! {
    struct Params {
        elements: u32,
        per_example: u32,
        channels: u32,
        from_variance: u32,
        epsilon: f32,
    }
}

/// Operations that are fused into a batch normalization, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NormEpilogue {
    /// Whether another tensor is added.
    pub adds: bool,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// Batch normalization along the last axis: y = (x - mean) * inv_std * scale + shift. With an epsilon, the
/// fifth buffer is a variance, from which the kernel computes inv_std. Buffers: x, scale, shift, mean,
/// inv_std or variance, y; then the added tensor if there is one.
pub fn batch_norm(extent: Extent, channels: usize, epsilon: Option<f64>, epilogue: NormEpilogue) -> Launch {
    let params = Params {
        elements: to_u32(extent.elements),
        per_example: to_u32(extent.per_row),
        channels: to_u32(channels),
        from_variance: u32::from(epsilon.is_some()),
        epsilon: epsilon.unwrap_or(0.0) as f32,
    };
    let width = vector_width(channels);
    let groups = grid_of(extent.elements / width, WORKGROUP);
    let flops = 4 + u64::from(epilogue.adds) + u64::from(epilogue.relu);
    let launch = Launch::new(&files::BATCH_NORM, &params, WORKGROUP, groups)
        .channel_vectors(width == 4)
        .flops(flops * extent.elements as u64);
    epilogue.add_to(launch)
}

impl NormEpilogue {
    fn add_to(self, mut launch: Launch) -> Launch {
        launch.snippets.push(if self.adds { &files::NORM_ADDEND } else { &files::NORM_NO_ADDEND });
        launch.declarations.push(constant_bool("RECTIFIED", self.relu));
        launch
    }
}

params! {
    struct StatisticsParams {
        epsilon: f32,
        first_mean: u32,
        first_inv_std: u32,
        first_variance: u32,
    }
}

/// Batch normalization by the statistics of the batch, which it merges from the splits of
/// `batch_moments_parallel` and stores. `first` are the indices of the first elements of mean, inv_std and
/// variance in their buffer. Buffers: moments, x, scale, shift, statistics, y; then the added tensor if there is
/// one.
pub fn batch_norm_parallel(
    tiles: &RowTiles,
    epsilon: f64,
    first: [usize; 3],
    epilogue: NormEpilogue,
) -> Launch {
    let [first_mean, first_inv_std, first_variance] = first.map(to_u32);
    let params = StatisticsParams { epsilon: epsilon as f32, first_mean, first_inv_std, first_variance };
    let flops = 4 + usize::from(epilogue.adds) + usize::from(epilogue.relu);
    epilogue.add_to(tiles.launch_merged(&files::BATCH_NORM_PARALLEL, flops, 2).more_params(&params))
}
