use super::max_pool2d::RUN;
use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, constant_bool, files, grid_of, width};

const WORKGROUP: u32 = 64;

/// Each dy to its first maximum, as a gather; if `relu`, through the ReLU before the pool as well, which lets pass what
/// comes from a maximum above 0. Buffers: position, dy, the maxima (anything without `relu`), dx.
pub fn max_pool2d_grad(images: &Images, relu: bool) -> Launch {
    let w = &images.window;
    let elements = images.count * w.input[0] * w.input[1] * images.channels;
    // Every input pixel lies in one window.
    let tiles = w.stride == w.kernel
        && w.dilation == [1, 1]
        && w.pad_begin == [0, 0]
        && [0, 1].iter().all(|&axis| w.output[axis] * w.stride[axis] == w.input[axis]);
    let width = width(images.channels);
    let size = if tiles { w.output } else { w.input };
    let runs = images.count * size[0] * size[1].div_ceil(RUN);
    let groups = grid_of(runs * images.channels / width, WORKGROUP);
    let mut launch = Launch::new(&files::MAX_POOL2D_GRAD, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * if tiles { 1 } else { w.taps() }) as u64)
        .iterations(RUN * (1 + w.taps() + w.kernel[0]))
        .element(width == 4);
    launch.taps(images);
    launch.declarations.extend([constant_bool("TILES", tiles), constant_bool("RELU", relu)]);
    launch
}
