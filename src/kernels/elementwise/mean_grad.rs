use super::elementwise;
use crate::kernels::{Extent, Launch, files};

/// 1 over the number of elements in use, in each of them. Buffers: the result.
pub fn mean_grad(extent: Extent) -> Launch {
    elementwise(&files::MEAN_GRAD, extent, 1)
}
