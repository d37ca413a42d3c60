use super::depthwise_conv2d::RUN;
use super::window::{Images, WINDOW_FIELDS, WINDOW_PARAMS, WindowParams};
use super::{GRID, Kernel, Launch, SCALARS, grid_of, index, width};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "depthwise_conv2d_grad_input",
    body: include_str!("../../shaders/depthwise_conv2d_grad_input.wgsl"),
    snippets: &[&WINDOW_PARAMS, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: WINDOW_FIELDS,
    params_bytes: size_of::<WindowParams>(),
};

const WORKGROUP: u32 = 64;

/// The gradient of [`super::depthwise_conv2d()`] in its input, as a gather. Buffers: dy, kernel, dx.
pub fn depthwise_conv2d_grad_input(images: &Images) -> Launch {
    let w = &images.window;
    let width = width(images.channels);
    let runs = images.count * w.input[0] * w.input[1].div_ceil(RUN);
    let groups = grid_of(runs * images.channels / width, WORKGROUP);
    let mut launch = Launch::new(&KERNEL, &WindowParams::new(images), WORKGROUP, groups)
        .flops((2 * images.count * w.outputs() * images.channels * w.taps()) as u64)
        .rounds(w.taps() + w.kernel[0])
        .element(width == 4);
    let [down, along] = w.stride.map(index);
    launch.constants.extend([("RUN", index(RUN)), ("STRIDE_H", down), ("STRIDE_W", along)]);
    launch
}
