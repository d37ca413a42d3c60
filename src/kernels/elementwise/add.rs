use crate::kernels::elementwise::elementwise;
use crate::kernels::{Extent, Launch, files};

/// y = a + b. Buffers: a, b, y.
pub fn add(extent: Extent) -> Launch {
    elementwise(&files::ADD, extent, 1)
}
