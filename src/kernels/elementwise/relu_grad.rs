use crate::kernels::elementwise::elementwise;
use crate::kernels::{Extent, Launch, files};

/// dx = dy where the activation is above 0, else 0. Buffers: activation, dy, dx.
pub fn relu_grad(extent: Extent) -> Launch {
    elementwise(&files::RELU_GRAD, extent, 1)
}
