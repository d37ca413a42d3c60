use super::{GRID, Kernel, Launch, SCALARS, grid_of, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "softmax_grad",
    body: include_str!("../../shaders/softmax_grad.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: &[
        ("rows", std::mem::offset_of!(Params, rows)),
        ("classes", std::mem::offset_of!(Params, classes)),
    ],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    classes: u32,
}

/// y * (dy - sum(dy * y)) of each row. Buffers: y, dy, dx.
pub fn softmax_grad(rows: usize, classes: usize) -> Launch {
    let params = Params { rows: index(rows), classes: index(classes) };
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(rows, WORKGROUP))
        .flops(4 * (rows * classes) as u64)
        .rounds(3 * classes)
}
