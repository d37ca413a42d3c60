use super::depthwise_conv2d::RUN;
use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid_of, index, width};

const WORKGROUP: u32 = 64;

/// The gradient of [`super::depthwise_conv2d()`] in its input, as a gather. Buffers: dy, kernel, dx.
pub fn depthwise_conv2d_grad_input(images: &Images) -> Launch {
    let w = &images.window;
    let width = width(images.channels);
    let runs = images.count * w.input[0] * w.input[1].div_ceil(RUN);
    let groups = grid_of(runs * images.channels / width, WORKGROUP);
    let mut launch =
        Launch::new(&files::DEPTHWISE_CONV2D_GRAD_INPUT, &WindowParams::new(images), WORKGROUP, groups)
            .flops((2 * images.count * w.outputs() * images.channels * w.taps()) as u64)
            .iterations(w.taps() + w.kernel[0])
            .element(width == 4);
    let [down, along] = w.stride.map(index);
    launch.constants.extend([("RUN", index(RUN)), ("STRIDE_H", down), ("STRIDE_W", along)]);
    launch
}
