use super::{GRID, Kernel, Launch, SCALARS, grid_of, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "mean_squared_error_grad",
    body: include_str!("../../shaders/mean_squared_error_grad.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: &[
        ("rows", std::mem::offset_of!(Params, rows)),
        ("per_row", std::mem::offset_of!(Params, per_row)),
    ],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    per_row: u32,
}

/// The gradient of the mean. Buffers: y, targets, dy.
pub fn mean_squared_error_grad(rows: usize, per_row: usize) -> Launch {
    let params = Params { rows: index(rows), per_row: index(per_row) };
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(rows * per_row, WORKGROUP))
        .flops(3 * (rows * per_row) as u64)
}
