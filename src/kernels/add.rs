use super::{
    ELEMENTWISE, ELEMENTWISE_FIELDS, ElementwiseParams, Extent, GRID, Kernel, Launch, SCALARS, elementwise,
};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "add",
    body: include_str!("../../shaders/add.wgsl"),
    snippets: &[&ELEMENTWISE, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: ELEMENTWISE_FIELDS,
    params_bytes: size_of::<ElementwiseParams>(),
};

/// y = a + b. Buffers: a, b, y.
pub fn add(extent: Extent) -> Launch {
    elementwise(&KERNEL, extent, 1)
}
