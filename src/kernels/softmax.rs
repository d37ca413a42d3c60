use super::{BITS, GRID, Kernel, Launch, SCALARS, SOFTMAX, grid_of, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "softmax",
    body: include_str!("../../shaders/softmax.wgsl"),
    snippets: &[&SOFTMAX, &BITS, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
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

/// exp(x) / sum(exp(x)) of each row. Buffers: x, y.
pub fn softmax(rows: usize, classes: usize) -> Launch {
    let params = Params { rows: index(rows), classes: index(classes) };
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(rows, WORKGROUP))
        .flops(4 * (rows * classes) as u64)
        .rounds(3 * classes)
}
