use super::activation::{ACTIVATION, Curve};
use super::{
    ELEMENTWISE, ELEMENTWISE_FIELDS, ElementwiseParams, Extent, GRID, Kernel, Launch, SCALARS,
    elementwise_with,
};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "activation_grad",
    body: include_str!("../../shaders/activation_grad.wgsl"),
    snippets: &[&ACTIVATION, &ELEMENTWISE, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: ELEMENTWISE_FIELDS,
    params_bytes: size_of::<ElementwiseParams>(),
};

/// dx = dy times the curve's derivative at x. Buffers: x, dy, dx.
pub fn activation_grad(extent: Extent, curve: Curve) -> Launch {
    let mut launch = elementwise_with(&KERNEL, extent, 1, curve.option());
    launch.snippets.push(curve.snippet());
    launch
}
