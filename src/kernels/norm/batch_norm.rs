use crate::kernels::{Extent, Launch, files, grid_of, to_u32, vector_width};
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

/// Batch normalization along the last axis: y = (x - mean) * inv_std * scale + shift. With an epsilon, the
/// fifth buffer is a variance, from which the kernel computes inv_std. Buffers: x, scale, shift, mean,
/// inv_std or variance, y.
pub fn batch_norm(extent: Extent, channels: usize, epsilon: Option<f64>) -> Launch {
    let params = Params {
        elements: to_u32(extent.elements),
        per_example: to_u32(extent.per_row),
        channels: to_u32(channels),
        from_variance: u32::from(epsilon.is_some()),
        epsilon: epsilon.unwrap_or(0.0) as f32,
    };
    let width = vector_width(channels);
    Launch::new(&files::BATCH_NORM, &params, WORKGROUP, grid_of(extent.elements / width, WORKGROUP))
        .channel_vectors(width == 4)
        .flops(4 * extent.elements as u64)
}
