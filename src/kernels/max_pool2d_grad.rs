use super::window::{Images, WINDOW, WINDOW_FIELDS, WINDOW_PARAMS, WindowParams, element};
use super::{GRID, Kernel, Launch, SCALARS, constant_bool, grid_of};
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
    let w = &images.window;
    let elements = images.count * w.input[0] * w.input[1] * images.channels;
    // Every input pixel lies in one window.
    let tiles = w.stride == w.kernel
        && w.dilation == [1, 1]
        && w.pad_begin == [0, 0]
        && [0, 1].iter().all(|&axis| w.output[axis] * w.stride[axis] == w.input[axis]);
    let vec4 = images.channels.is_multiple_of(4);
    let per_invocation = if vec4 { 4 } else { 1 } * if tiles { w.taps() } else { 1 };
    let groups = grid_of(elements / per_invocation, WORKGROUP);
    let mut launch = Launch::new(&KERNEL, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * if tiles { 1 } else { w.taps() }) as u64)
        .rounds(w.taps() + w.kernel[0]);
    launch.declarations.extend(element(vec4));
    launch.declarations.push(constant_bool("TILES", tiles));
    launch
}
