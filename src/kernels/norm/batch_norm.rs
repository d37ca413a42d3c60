use crate::kernels::{Extent, Launch, files, grid_of, index, width};
use crate::wgsl::params;

const WORKGROUP: u32 = 256;

params! {
    struct Params {
        elements: u32,
        per_row: u32,
        channels: u32,
        from_variance: u32,
        epsilon: f32,
    }
}

/// `(x - mean)*inv_std*scale + shift` along the last axis; with an epsilon, `pixel_set` is a variance.
/// Buffers: x, scale, shift, mean, pixel_set, y.
pub fn batch_norm(extent: Extent, channels: usize, epsilon: Option<f64>) -> Launch {
    let params = Params {
        elements: index(extent.elements),
        per_row: index(extent.per_row),
        channels: index(channels),
        from_variance: u32::from(epsilon.is_some()),
        epsilon: epsilon.unwrap_or(0.0) as f32,
    };
    let width = width(channels);
    Launch::new(&files::BATCH_NORM, &params, WORKGROUP, grid_of(extent.elements / width, WORKGROUP))
        .element(width == 4)
        .flops(4 * extent.elements as u64)
}
