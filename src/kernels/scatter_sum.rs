use super::{GRID, Kernel, Launch, SCALARS, grid_of, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "scatter_sum",
    body: include_str!("../../shaders/scatter_sum.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: &[
        ("count", std::mem::offset_of!(Params, count)),
        ("slices", std::mem::offset_of!(Params, slices)),
    ],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 64;

/// What a list holds for elements that belong nowhere.
pub const NO_PLACE: u32 = u32::MAX;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    count: u32,
    slices: u32,
}

/// Sums `[slices, count]` over the slices, each result to its place. Buffers: places, sums, results.
pub fn scatter_sum(count: usize, slices: usize) -> Launch {
    let params = Params { count: index(count), slices: index(slices) };
    let mut launch = Launch::new(&KERNEL, &params, WORKGROUP, grid_of(count, WORKGROUP))
        .flops((count * (slices - 1)) as u64)
        .rounds(slices);
    launch.constants.push(("NO_PLACE", NO_PLACE));
    launch
}
