use super::{ELEMENTWISE_WORKGROUP, Extent, GRID, Kernel, Launch, SCALARS, Snippet, grid_of, index};
use crate::gpu::Access;
use crate::graph::Dropout;

pub(super) static KERNEL: Kernel = Kernel {
    name: "dropout",
    body: include_str!("../../shaders/dropout.wgsl"),
    snippets: &[&THREEFRY, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
    params: &[
        ("elements", std::mem::offset_of!(Params, elements)),
        ("per_row", std::mem::offset_of!(Params, per_row)),
        ("threshold", std::mem::offset_of!(Params, threshold)),
        ("offset", std::mem::offset_of!(Params, offset)),
        ("scale", std::mem::offset_of!(Params, scale)),
    ],
    params_bytes: size_of::<Params>(),
};

static THREEFRY: Snippet =
    Snippet { name: "threefry", text: include_str!("../../shaders/shared/threefry.wgsl"), bindings: &[] };

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    elements: u32,
    per_row: u32,
    threshold: u32,
    offset: u32,
    scale: f32,
}

/// y = x scaled where it is kept, else 0. Buffers: x, y.
pub fn dropout(extent: Extent, dropout: Dropout) -> Launch {
    let params = Params {
        elements: index(extent.elements),
        per_row: index(extent.per_row),
        threshold: dropout.threshold(),
        offset: dropout.offset(),
        scale: dropout.scale() as f32,
    };
    let groups = grid_of(extent.elements.div_ceil(4), ELEMENTWISE_WORKGROUP);
    Launch::new(&KERNEL, &params, ELEMENTWISE_WORKGROUP, groups).flops(extent.elements as u64).rounds(3)
}
