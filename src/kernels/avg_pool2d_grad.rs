use super::avg_pool2d::AVERAGE;
use super::window::{Images, WINDOW, WINDOW_FIELDS, WINDOW_PARAMS, WindowParams};
use super::{GRID, Kernel, Launch, SCALARS, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "avg_pool2d_grad",
    body: include_str!("../../shaders/avg_pool2d_grad.wgsl"),
    snippets: &[&AVERAGE, &WINDOW_PARAMS, &WINDOW, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
    params: WINDOW_FIELDS,
    params_bytes: size_of::<WindowParams>(),
};

const WORKGROUP: u32 = 64;

/// Each dy in equal shares to the elements that it averaged, as a gather. Buffers: dy, dx.
pub fn avg_pool2d_grad(images: &Images) -> Launch {
    let w = &images.window;
    let elements = images.count * w.input[0] * w.input[1] * images.channels;
    let vec4 = images.channels.is_multiple_of(4);
    let groups = grid_of(if vec4 { elements / 4 } else { elements }, WORKGROUP);
    Launch::new(&KERNEL, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * w.taps()) as u64)
        .rounds(w.taps() + w.kernel[0])
        .element(vec4)
}
