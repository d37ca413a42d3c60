use super::{GRID, Kernel, Launch, SCALARS, grid_of, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "batch_statistics",
    body: include_str!("../../shaders/batch_statistics.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite), (4, Access::ReadWrite), (5, Access::ReadWrite)],
    params: &[
        ("rows", std::mem::offset_of!(Params, rows)),
        ("rows_per_row", std::mem::offset_of!(Params, rows_per_row)),
        ("channels", std::mem::offset_of!(Params, channels)),
        ("slices", std::mem::offset_of!(Params, slices)),
        ("epsilon", std::mem::offset_of!(Params, epsilon)),
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
    epsilon: f32,
}

/// Merges the `slices` parts of `batch_moments`. Buffers: moments, mean, inv_std, variance.
pub fn batch_statistics(
    rows: usize,
    rows_per_row: usize,
    channels: usize,
    slices: usize,
    epsilon: f64,
) -> Launch {
    let params = Params {
        rows: index(rows),
        rows_per_row: index(rows_per_row),
        channels: index(channels),
        slices: index(slices),
        epsilon: epsilon as f32,
    };
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(channels, WORKGROUP))
        .flops((8 * slices * channels) as u64)
        .rounds(slices)
}
