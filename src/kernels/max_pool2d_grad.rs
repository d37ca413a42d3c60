use super::window::{Images, WINDOW, WINDOW_FIELDS, WINDOW_PARAMS, WindowParams};
use super::{GRID, Kernel, Launch, SCALARS, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "max_pool2d_grad",
    body: include_str!("../../shaders/max_pool2d_grad.wgsl"),
    snippets: &[&WINDOW_PARAMS, &WINDOW, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: WINDOW_FIELDS,
    params_bytes: size_of::<WindowParams>(),
};

const WORKGROUP: u32 = 64;

/// Each dy to its first maximum, as a gather. Buffers: position, dy, dx.
pub fn max_pool2d_grad(images: &Images) -> Launch {
    let elements = images.count * images.window.input[0] * images.window.input[1] * images.channels;
    Launch::new(&KERNEL, &WindowParams::new(images), WORKGROUP, grid_of(elements, WORKGROUP))
        .flops((elements * images.window.taps()) as u64)
        .rounds(images.window.taps() + images.window.kernel[0])
}
