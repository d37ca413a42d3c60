use super::{
    BITS, ELEMENTWISE, ELEMENTWISE_FIELDS, ElementwiseParams, Extent, GRID, Kernel, Launch, SCALARS,
    elementwise,
};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "relu",
    body: include_str!("../../shaders/relu.wgsl"),
    snippets: &[&BITS, &ELEMENTWISE, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
    params: ELEMENTWISE_FIELDS,
    params_bytes: size_of::<ElementwiseParams>(),
};

/// y = x where above 0, else 0. Buffers: x, y.
pub fn relu(extent: Extent) -> Launch {
    elementwise(&KERNEL, extent, 1)
}
