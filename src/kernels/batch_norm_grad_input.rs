use super::{Extent, GRID, Kernel, Launch, SCALARS, grid_of, index, width};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "batch_norm_grad_input",
    body: include_str!("../../shaders/batch_norm_grad_input.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[
        (2, Access::Read),
        (3, Access::Read),
        (4, Access::Read),
        (5, Access::Read),
        (6, Access::Read),
        (7, Access::Read),
        (8, Access::Read),
        (9, Access::ReadWrite),
    ],
    params: &[
        ("elements", std::mem::offset_of!(Params, elements)),
        ("per_row", std::mem::offset_of!(Params, per_row)),
        ("channels", std::mem::offset_of!(Params, channels)),
    ],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 256;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    elements: u32,
    per_row: u32,
    channels: u32,
}

/// The gradient of a batch norm in its input. Buffers: x, dy, scale, mean, inv_std, dscale, dshift, dx.
pub fn batch_norm_grad_input(extent: Extent, channels: usize) -> Launch {
    let params = Params {
        elements: index(extent.elements),
        per_row: index(extent.per_row),
        channels: index(channels),
    };
    let width = width(channels);
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(extent.elements / width, WORKGROUP))
        .element(width == 4)
        .flops(8 * extent.elements as u64)
}
