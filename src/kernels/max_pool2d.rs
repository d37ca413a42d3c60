use super::window::{Images, WINDOW, WINDOW_FIELDS, WINDOW_PARAMS, WindowParams};
use super::{BITS, GRID, Kernel, Launch, SCALARS, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "max_pool2d",
    body: include_str!("../../shaders/max_pool2d.wgsl"),
    snippets: &[&WINDOW_PARAMS, &WINDOW, &SCALARS, &GRID, &BITS],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite), (4, Access::ReadWrite)],
    params: WINDOW_FIELDS,
    params_bytes: size_of::<WindowParams>(),
};

const WORKGROUP: u32 = 64;

/// Maxima and the positions of the first of each. Buffers: x, y, position.
pub fn max_pool2d(images: &Images) -> Launch {
    let elements = images.count * images.window.outputs() * images.channels;
    Launch::new(&KERNEL, &WindowParams::new(images), WORKGROUP, grid_of(elements, WORKGROUP))
        .flops((elements * images.window.taps()) as u64)
        .rounds(images.window.taps() + images.window.kernel[0])
}
