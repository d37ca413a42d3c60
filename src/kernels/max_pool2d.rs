use super::window::{Images, WINDOW, WINDOW_FIELDS, WINDOW_PARAMS, WindowParams, element};
use super::{GRID, Kernel, Launch, SCALARS, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "max_pool2d",
    body: include_str!("../../shaders/max_pool2d.wgsl"),
    snippets: &[&WINDOW_PARAMS, &WINDOW, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite), (4, Access::ReadWrite)],
    params: WINDOW_FIELDS,
    params_bytes: size_of::<WindowParams>(),
};

const WORKGROUP: u32 = 64;

/// Maxima and the positions of the first of each. Buffers: x, y, position.
pub fn max_pool2d(images: &Images) -> Launch {
    let elements = images.count * images.window.outputs() * images.channels;
    let vec4 = images.channels.is_multiple_of(4);
    let groups = grid_of(if vec4 { elements / 4 } else { elements }, WORKGROUP);
    let mut launch = Launch::new(&KERNEL, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * images.window.taps()) as u64)
        .rounds(images.window.taps() + images.window.kernel[0]);
    launch.declarations.extend(element(vec4));
    launch
}
