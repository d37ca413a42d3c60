use crate::kernels::elementwise::elementwise;
use crate::kernels::{Extent, Launch, files};

/// y = x where above 0, else 0. Buffers: x, y.
pub fn relu(extent: Extent) -> Launch {
    elementwise(&files::RELU, extent, 1)
}
