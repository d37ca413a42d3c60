use super::{
    ELEMENTWISE, ELEMENTWISE_FIELDS, ElementwiseParams, Extent, GRID, Kernel, Launch, SCALARS, elementwise,
};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "relu_grad",
    body: include_str!("../../shaders/relu_grad.wgsl"),
    snippets: &[&ELEMENTWISE, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: ELEMENTWISE_FIELDS,
    params_bytes: size_of::<ElementwiseParams>(),
};

/// dx = dy where the activation is above 0, else 0. Buffers: activation, dy, dx.
pub fn relu_grad(extent: Extent) -> Launch {
    elementwise(&KERNEL, extent, 1)
}
