use crate::kernels::{Launch, RowTiles, files, grid_of, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        images: u32,
        pixels: u32,
        channels: u32,
        inverse: f32,
    }
}

/// Global average pooling: mean over the pixels of each channel of each image. Buffers: x, y.
pub fn global_avg_pool(images: usize, pixels: usize, channels: usize) -> Launch {
    let params = Params {
        images: to_u32(images),
        pixels: to_u32(pixels),
        channels: to_u32(channels),
        inverse: (1.0 / pixels as f64) as f32,
    };
    Launch::new(&files::GLOBAL_AVG_POOL, &params, WORKGROUP, grid_of(images * channels, WORKGROUP))
        .flops((images * pixels * channels) as u64)
        .iterations(pixels)
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
