use crate::kernels::{Extent, Launch, RowTiles, constant_bool, files, grid_of, to_u32, vector_width};
use crate::wgsl::params;

const WORKGROUP: u32 = 256;

params! {
    struct Params {
        elements: u32,
        per_example: u32,
        channels: u32,
    }
}

/// Input gradient (dX) of a batch normalization. Buffers: x, dy, scale, mean, inv_std, dscale, dshift, dx.
pub fn batch_norm_grad_input(extent: Extent, channels: usize) -> Launch {
    let params = Params {
        elements: to_u32(extent.elements),
        per_example: to_u32(extent.per_row),
        channels: to_u32(channels),
    };
    let width = vector_width(channels);
    Launch::new(
        &files::BATCH_NORM_GRAD_INPUT,
        &params,
        WORKGROUP,
        grid_of(extent.elements / width, WORKGROUP),
    )
    .channel_vectors(width == 4)
    .flops(8 * extent.elements as u64)
}

params! {
    struct StatisticsParams {
        first_mean: u32,
        first_inv_std: u32,
    }
}

/// Input gradient (dX) of a batch normalization, which also adds the splits of `batch_norm_grad_sums_parallel`.
/// `first` are the indices of the first elements of mean and inv_std in their buffer. If `rectified`, dy is the
/// gradient of the output of the ReLU after the normalization, as for [`NormGradient::Recomputed`]. Buffers: x, dy,
/// scale, statistics, sums, dscale, dshift, dx.
///
/// [`NormGradient::Recomputed`]: super::NormGradient::Recomputed
pub fn batch_norm_grad_input_parallel(tiles: &RowTiles, first: [usize; 2], rectified: bool) -> Launch {
    let [first_mean, first_inv_std] = first.map(to_u32);
    let params = StatisticsParams { first_mean, first_inv_std };
    let mut launch = tiles.launch_merged(&files::BATCH_NORM_GRAD_INPUT_PARALLEL, 8, 1).more_params(&params);
    launch.declarations.push(constant_bool("RECTIFIED", rectified));
    launch
}
