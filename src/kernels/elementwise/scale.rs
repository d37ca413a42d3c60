use super::elementwise_with;
use crate::kernels::{Extent, Launch, files};

/// y = factor * x. Buffers: x, y.
pub fn scale(extent: Extent, factor: f64) -> Launch {
    elementwise_with(&files::SCALE, extent, 1, factor as f32)
}
