use super::max_pool2d::{RUN, window_constants};
use crate::kernels::window::{Images, WindowParams, tap_iterations};
use crate::kernels::{Launch, constant_bool, files, grid_of, vector_width};
use std::ops::Range;

const WORKGROUP: u32 = 64;

/// Gradient of max pooling: adds each dy to the first maximum of its window, for a range of taps. `relu` fuses the gradient of a
/// ReLU before the pool, which passes dy only where the maximum is above 0. Buffers: position, dy, maxima
/// (any buffer without `relu`), dx.
pub fn max_pool2d_grad(images: &Images, taps: &Range<usize>, relu: bool) -> Launch {
    let w = &images.window;
    let elements = images.count * w.input[0] * w.input[1] * images.channels;
    // Whether every input pixel lies in exactly one window.
    let windows_tile_input = w.stride == w.kernel
        && w.dilation == [1, 1]
        && w.pad_begin == [0, 0]
        && [0, 1].iter().all(|&axis| w.output[axis] * w.stride[axis] == w.input[axis]);
    let width = vector_width(images.channels);
    let size = if windows_tile_input { w.output } else { w.input };
    let runs = images.count * size[0] * size[1].div_ceil(RUN);
    let groups = grid_of(runs * images.channels / width, WORKGROUP);
    let mut launch = Launch::new(&files::MAX_POOL2D_GRAD, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * if windows_tile_input { 1 } else { taps.len() }) as u64)
        .iterations(RUN * (1 + tap_iterations(w, taps)))
        .channel_vectors(width == 4);
    launch.constants.extend(window_constants(images, taps));
    launch.declarations.extend([
        constant_bool("WINDOWS_TILE_INPUT", windows_tile_input),
        constant_bool("RELU", relu),
        constant_bool("PART", taps.len() < w.taps()),
    ]);
    launch
}
