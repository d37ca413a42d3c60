use super::depthwise_conv2d::RUN;
use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid_of, to_u32, vector_width};
use std::ops::Range;

const WORKGROUP: u32 = 64;

/// Input gradient (dX) of [`super::depthwise_conv2d()`], as a gather, for a range of taps. Buffers:
/// dy, kernel, dx.
pub fn depthwise_conv2d_grad_input(images: &Images, taps: &Range<usize>) -> Launch {
    let w = &images.window;
    let width = vector_width(images.channels);
    let runs = images.count * w.input[0] * w.input[1].div_ceil(RUN);
    let groups = grid_of(runs * images.channels / width, WORKGROUP);
    let mut launch =
        Launch::new(&files::DEPTHWISE_CONV2D_GRAD_INPUT, &WindowParams::new(images), WORKGROUP, groups)
            .flops((2 * images.count * w.outputs() * images.channels * taps.len()) as u64)
            .taps(w, taps)
            .channel_vectors(width == 4);
    let [stride_h, stride_w] = w.stride.map(to_u32);
    launch.constants.extend([("RUN", to_u32(RUN)), ("STRIDE_H", stride_h), ("STRIDE_W", stride_w)]);
    launch
}
