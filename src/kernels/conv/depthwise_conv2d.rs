use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, constant_bool, files, grid_of, index, width};

const WORKGROUP: u32 = 64;

/// Pixels of a row in one invocation: so many share each weight that it reads.
pub(super) const RUN: usize = 4;

/// A convolution with a kernel of its own for each channel, `[kernel_h, kernel_w, 1, channels]`; then the bias added and
/// ReLU taken, if so. Buffers: x, kernel, bias (anything if there is none), y.
pub fn depthwise_conv2d(images: &Images, bias: bool, relu: bool) -> Launch {
    let w = &images.window;
    let width = width(images.channels);
    let runs = images.count * w.output[0] * w.output[1].div_ceil(RUN);
    let groups = grid_of(runs * images.channels / width, WORKGROUP);
    let mut launch = Launch::new(&files::DEPTHWISE_CONV2D, &WindowParams::new(images), WORKGROUP, groups)
        .flops((2 * images.count * w.outputs() * images.channels * w.taps()) as u64)
        .iterations(w.taps() + w.kernel[0])
        .element(width == 4);
    launch.constants.push(("RUN", index(RUN)));
    launch.declarations.extend([constant_bool("BIAS", bias), constant_bool("RELU", relu)]);
    launch
}
