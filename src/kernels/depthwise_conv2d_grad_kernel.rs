use super::window::{Images, WINDOW, WINDOW_FIELDS, WINDOW_PARAMS, WindowParams};
use super::{GRID, Kernel, Launch, SCALARS, grid_of, index, width};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "depthwise_conv2d_grad_kernel",
    body: include_str!("../../shaders/depthwise_conv2d_grad_kernel.wgsl"),
    snippets: &[&WINDOW_PARAMS, &WINDOW, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: WINDOW_FIELDS,
    params_bytes: size_of::<WindowParams>(),
};

const WORKGROUP: u32 = 64;

/// Kernel rows up to this length are one invocation's, which then reads each dy once for all their taps.
const MOST_TAPS: usize = 8;

/// The gradient of [`super::depthwise_conv2d()`] in its kernel, over the output rows of the batch in `images.groups` slices:
/// `[slices, kernel_h, kernel_w, channels]`; `bias_grad` adds them. Buffers: x, dy, sums.
pub fn depthwise_conv2d_grad_kernel(images: &Images) -> Launch {
    let w = &images.window;
    let width = width(images.channels);
    let taps = if w.kernel[1] <= MOST_TAPS { w.kernel[1] } else { 1 };
    let sums = images.groups * w.taps() * images.channels;
    let lines = (images.count * w.output[0]).div_ceil(images.groups);
    let groups = grid_of(sums / taps / width, WORKGROUP);
    let mut launch = Launch::new(&KERNEL, &WindowParams::new(images), WORKGROUP, groups)
        .flops((2 * images.count * w.outputs() * images.channels * w.taps()) as u64)
        .rounds(lines * (1 + w.output[1]))
        .element(width == 4);
    launch.constants.push(("TAPS", index(taps)));
    launch
}
