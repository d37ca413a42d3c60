use crate::kernels::elementwise::activation::Curve;
use crate::kernels::elementwise::elementwise_with;
use crate::kernels::{Extent, Launch, files};

/// dx = dy times the curve's derivative at x. Buffers: x, dy, dx.
pub fn activation_grad(extent: Extent, curve: Curve) -> Launch {
    let mut launch = elementwise_with(&files::ACTIVATION_GRAD, extent, 1, curve.option());
    launch.snippets.push(curve.snippet());
    launch
}
