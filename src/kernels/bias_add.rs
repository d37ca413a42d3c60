use super::{
    ELEMENTWISE, ELEMENTWISE_FIELDS, ElementwiseParams, Extent, GRID, Kernel, Launch, SCALARS, elementwise,
};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "bias_add",
    body: include_str!("../../shaders/bias_add.wgsl"),
    snippets: &[&ELEMENTWISE, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: ELEMENTWISE_FIELDS,
    params_bytes: size_of::<ElementwiseParams>(),
};

/// y = x + bias along the last axis. Buffers: x, bias, y.
pub fn bias_add(extent: Extent, channels: usize) -> Launch {
    elementwise(&KERNEL, extent, channels)
}
