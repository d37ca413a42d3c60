use crate::kernels::{Launch, files, grid_of, index};
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

/// Each pixel's share of its channel's gradient. Buffers: dy, dx.
pub fn global_avg_pool_grad(images: usize, pixels: usize, channels: usize) -> Launch {
    let params = Params {
        images: index(images),
        pixels: index(pixels),
        channels: index(channels),
        inverse: (1.0 / pixels as f64) as f32,
    };
    let elements = images * pixels * channels;
    Launch::new(&files::GLOBAL_AVG_POOL_GRAD, &params, WORKGROUP, grid_of(elements, WORKGROUP))
        .flops(elements as u64)
}
