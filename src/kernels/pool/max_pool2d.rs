use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid_of, to_u32, vector_width};

const WORKGROUP: u32 = 64;

/// Number of adjacent pixels of a row that one invocation computes.
pub(super) const RUN: usize = 4;

/// Max pooling, with the position of the first maximum in each window. Buffers: x, y, position.
pub fn max_pool2d(images: &Images) -> Launch {
    let w = &images.window;
    let elements = images.count * w.outputs() * images.channels;
    let width = vector_width(images.channels);
    let runs = images.count * w.output[0] * w.output[1].div_ceil(RUN);
    let groups = grid_of(runs * images.channels / width, WORKGROUP);
    let mut launch = Launch::new(&files::MAX_POOL2D, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * w.taps()) as u64)
        .iterations(RUN * (1 + w.taps()))
        .channel_vectors(width == 4);
    launch.constants.extend(window_constants(images));
    launch
}

/// Constants with the sizes of the window and of a run, which let drivers unroll short loops.
pub(super) fn window_constants(images: &Images) -> [(&'static str, u32); 4] {
    let [height, width] = images.window.kernel.map(to_u32);
    let taps = to_u32(images.window.taps());
    [("RUN", to_u32(RUN)), ("KERNEL_H", height), ("KERNEL_W", width), ("TAPS", taps)]
}
