use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid_of, to_u32, vector_width};
use std::ops::Range;

const WORKGROUP: u32 = 64;

/// Number of adjacent pixels of a row that one invocation computes.
pub(crate) const RUN: usize = 4;

/// Max pooling, with the position of the first maximum in each window, for a range of taps. Buffers: x, y, position.
pub fn max_pool2d(images: &Images, taps: &Range<usize>) -> Launch {
    let w = &images.window;
    let elements = images.count * w.outputs() * images.channels;
    let width = vector_width(images.channels);
    let runs = images.count * w.output[0] * w.output[1].div_ceil(RUN);
    let groups = grid_of(runs * images.channels / width, WORKGROUP);
    let mut launch = Launch::new(&files::MAX_POOL2D, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * taps.len()) as u64)
        .iterations(RUN * (1 + taps.len()))
        .channel_vectors(width == 4);
    launch.constants.extend(window_constants(images, taps));
    launch
}

/// Constants with the sizes of the window and of a run and the range of taps, which let drivers unroll short
/// loops.
pub(super) fn window_constants(images: &Images, taps: &Range<usize>) -> [(&'static str, u32); 5] {
    let [height, width] = images.window.kernel.map(to_u32);
    let range = [("FIRST_TAP", to_u32(taps.start)), ("END_TAP", to_u32(taps.end))];
    [("RUN", to_u32(RUN)), ("KERNEL_H", height), ("KERNEL_W", width), range[0], range[1]]
}
