use crate::kernels::elementwise::elementwise;
use crate::kernels::{Extent, Launch, files};

/// y = x + bias along the last axis. Buffers: x, bias, y.
pub fn bias_add(extent: Extent, channels: usize) -> Launch {
    elementwise(&files::BIAS_ADD, extent, channels)
}
