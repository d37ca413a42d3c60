use crate::kernels::{Launch, RowTiles, files, grid_of, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        images: u32,
        pixels: u32,
        channels: u32,
        splits: u32,
        pixels_per_split: u32,
        factor: f32,
    }
}

/// Sums of the pixels of each channel of each image, times `factor`, for each of `splits` splits of the
/// pixels: the mean for one split and a factor of 1 / pixels. Buffers: x `[images, pixels, channels]`, sums
/// `[images, splits, channels]`.
pub fn global_avg_pool(images: usize, pixels: usize, channels: usize, splits: usize, factor: f64) -> Launch {
    let pixels_per_split = pixels.div_ceil(splits);
    let params = Params {
        images: to_u32(images),
        pixels: to_u32(pixels),
        channels: to_u32(channels),
        splits: to_u32(splits),
        pixels_per_split: to_u32(pixels_per_split),
        factor: factor as f32,
    };
    Launch::new(&files::GLOBAL_AVG_POOL, &params, WORKGROUP, grid_of(images * splits * channels, WORKGROUP))
        .flops((images * pixels * channels) as u64)
        .iterations(pixels_per_split)
}

params! {
    struct ParallelParams {
        inverse: f32,
    }
}

/// The parallel variant of [`global_avg_pool`]. Buffers: x, y.
pub fn global_avg_pool_parallel(images: usize, pixels: usize, channels: usize) -> Launch {
    RowTiles::examples(images, pixels, channels)
        .launch(&files::GLOBAL_AVG_POOL_PARALLEL, 1, 1)
        .more_params(&ParallelParams { inverse: (1.0 / pixels as f64) as f32 })
}
