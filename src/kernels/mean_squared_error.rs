use super::{GRID, Kernel, Launch, SCALARS, grid, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "mean_squared_error",
    body: include_str!("../../shaders/mean_squared_error.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: &[
        ("rows", std::mem::offset_of!(Params, rows)),
        ("per_row", std::mem::offset_of!(Params, per_row)),
        ("inverse", std::mem::offset_of!(Params, inverse)),
    ],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    per_row: u32,
    inverse: f32,
}

/// The mean of each row's squared differences. Buffers: y, targets, loss.
pub fn mean_squared_error(rows: usize, per_row: usize) -> Launch {
    let params =
        Params { rows: index(rows), per_row: index(per_row), inverse: (1.0 / per_row as f64) as f32 };
    Launch::new(&KERNEL, &params, WORKGROUP, grid(rows, 1))
        .flops(3 * (rows * per_row) as u64)
        .rounds(per_row.div_ceil(WORKGROUP as usize) + WORKGROUP as usize)
}
