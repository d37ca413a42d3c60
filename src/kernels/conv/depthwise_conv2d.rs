use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, constant_bool, files, grid_of, to_u32, vector_width};
use std::ops::Range;

const WORKGROUP: u32 = 64;

/// Adjacent output pixels of a row that one invocation computes, so that it loads each weight once for all.
pub(super) const RUN: usize = 4;

/// Depthwise convolution with a kernel `[kernel_h, kernel_w, 1, channels]` and an optional fused bias and
/// ReLU, for a range of taps. Buffers: x, kernel, bias (any buffer if there is none), y.
pub fn depthwise_conv2d(images: &Images, taps: &Range<usize>, bias: bool, relu: bool) -> Launch {
    let w = &images.window;
    let width = vector_width(images.channels);
    let runs = images.count * w.output[0] * w.output[1].div_ceil(RUN);
    let groups = grid_of(runs * images.channels / width, WORKGROUP);
    let mut launch = Launch::new(&files::DEPTHWISE_CONV2D, &WindowParams::new(images), WORKGROUP, groups)
        .flops((2 * images.count * w.outputs() * images.channels * taps.len()) as u64)
        .taps(w, taps)
        .channel_vectors(width == 4);
    launch.constants.push(("RUN", to_u32(RUN)));
    launch.declarations.extend([constant_bool("BIAS", bias), constant_bool("RELU", relu)]);
    launch
}
