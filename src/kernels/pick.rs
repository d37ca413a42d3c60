use super::{GRID, Kernel, Launch, NO_PLACE, SCALARS, grid_of, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "pick",
    body: include_str!("../../shaders/pick.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: &[("count", std::mem::offset_of!(Params, count))],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    count: u32,
}

/// Elements from their places. Buffers: places, source, results.
pub fn pick(count: usize) -> Launch {
    let params = Params { count: index(count) };
    let mut launch = Launch::new(&KERNEL, &params, WORKGROUP, grid_of(count, WORKGROUP));
    launch.constants.push(("NO_PLACE", NO_PLACE));
    launch
}
