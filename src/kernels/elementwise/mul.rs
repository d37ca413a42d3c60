use super::elementwise;
use crate::kernels::{Extent, Launch, files};

/// y = a * b, element by element. Buffers: a, b, y.
pub fn mul(extent: Extent) -> Launch {
    elementwise(&files::MUL, extent, 1)
}
