use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid_of, index, width};

const WORKGROUP: u32 = 64;

/// Kernel rows up to this length are one invocation's, which then reads each dy once for all their taps.
const MAX_TAPS: usize = 8;

/// The gradient of [`super::depthwise_conv2d()`] in its kernel, over the output rows of the batch in `images.groups` splits:
/// `[splits, kernel_h, kernel_w, channels]`; `bias_grad` adds them. Buffers: x, dy, sums.
pub fn depthwise_conv2d_grad_kernel(images: &Images) -> Launch {
    let w = &images.window;
    let width = width(images.channels);
    let taps = if w.kernel[1] <= MAX_TAPS { w.kernel[1] } else { 1 };
    let sums = images.groups * w.taps() * images.channels;
    let lines = (images.count * w.output[0]).div_ceil(images.groups);
    let groups = grid_of(sums / taps / width, WORKGROUP);
    let mut launch =
        Launch::new(&files::DEPTHWISE_CONV2D_GRAD_KERNEL, &WindowParams::new(images), WORKGROUP, groups)
            .flops((2 * images.count * w.outputs() * images.channels * w.taps()) as u64)
            .iterations(lines * (1 + w.output[1]))
            .element(width == 4);
    launch.constants.push(("TAPS", index(taps)));
    launch
}
