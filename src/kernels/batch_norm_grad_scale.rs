use super::{GRID, Kernel, Launch, SCALARS, grid_of, index, width};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "batch_norm_grad_scale",
    body: include_str!("../../shaders/batch_norm_grad_scale.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[
        (2, Access::Read),
        (3, Access::Read),
        (4, Access::Read),
        (5, Access::Read),
        (6, Access::ReadWrite),
    ],
    params: &[
        ("rows", std::mem::offset_of!(Params, rows)),
        ("rows_per_row", std::mem::offset_of!(Params, rows_per_row)),
        ("channels", std::mem::offset_of!(Params, channels)),
        ("slices", std::mem::offset_of!(Params, slices)),
    ],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    rows_per_row: u32,
    channels: u32,
    slices: u32,
}

/// Sums of `dy*(x - mean)*inv_std` over the rows of `[rows, channels]`, in `slices` parts: `[slices, channels]`; `bias_grad`
/// adds the parts. Buffers: x, dy, mean, inv_std, sums.
pub fn batch_norm_grad_scale(rows: usize, rows_per_row: usize, channels: usize, slices: usize) -> Launch {
    let params = Params {
        rows: index(rows),
        rows_per_row: index(rows_per_row),
        channels: index(channels),
        slices: index(slices),
    };
    let width = width(channels);
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(slices * channels / width, WORKGROUP))
        .element(width == 4)
        .flops((4 * rows * channels) as u64)
        .rounds(rows.div_ceil(slices))
}
