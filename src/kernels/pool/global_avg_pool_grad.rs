use crate::kernels::{Launch, files, grid_of, to_u32};
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

/// Gradient of global average pooling: dy / pixels for each pixel. Buffers: dy, dx.
pub fn global_avg_pool_grad(images: usize, pixels: usize, channels: usize) -> Launch {
    let params = Params {
        images: to_u32(images),
        pixels: to_u32(pixels),
        channels: to_u32(channels),
        inverse: (1.0 / pixels as f64) as f32,
    };
    let elements = images * pixels * channels;
    Launch::new(&files::GLOBAL_AVG_POOL_GRAD, &params, WORKGROUP, grid_of(elements, WORKGROUP))
        .flops(elements as u64)
}
