use super::{BITS, GRID, Kernel, Launch, MATH, SCALARS, SOFTMAX, grid_of, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "softmax_cross_entropy",
    body: include_str!("../../shaders/softmax_cross_entropy.wgsl"),
    snippets: &[&SOFTMAX, &SCALARS, &GRID, &BITS, &MATH],
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

/// The loss of each row. Buffers: logits, labels, loss.
pub fn softmax_cross_entropy(rows: usize, classes: usize) -> Launch {
    let params = Params { rows: index(rows), classes: index(classes) };
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(rows, WORKGROUP))
        .flops((rows * classes * 4) as u64)
        .rounds(3 * classes)
}
