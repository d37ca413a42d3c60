use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid_of, to_u32, vector_width};

const WORKGROUP: u32 = 64;

/// Maximum length of a kernel row that one invocation computes, loading each dy once for all taps of the row.
const MAX_TAPS: usize = 8;

/// Weight gradient (dW) of [`super::depthwise_conv2d()`], as partial sums over `images.groups` ranges of the
/// batch's output rows times `column_splits` ranges of the columns: `[splits, kernel_h, kernel_w, channels]`;
/// `bias_grad` adds them. Buffers: x, dy, partial sums.
pub fn depthwise_conv2d_grad_kernel(images: &Images, column_splits: usize) -> Launch {
    let w = &images.window;
    let width = vector_width(images.channels);
    let taps = if w.kernel[1] <= MAX_TAPS { w.kernel[1] } else { 1 };
    let sums = images.groups * column_splits * w.taps() * images.channels;
    let rows_per_split = (images.count * w.output[0]).div_ceil(images.groups);
    let groups = grid_of(sums / taps / width, WORKGROUP);
    let mut launch =
        Launch::new(&files::DEPTHWISE_CONV2D_GRAD_KERNEL, &WindowParams::new(images), WORKGROUP, groups)
            .flops((2 * images.count * w.outputs() * images.channels * w.taps()) as u64)
            .iterations(rows_per_split * (1 + w.output[1].div_ceil(column_splits)))
            .channel_vectors(width == 4);
    launch.constants.extend([("TAPS", to_u32(taps)), ("COLUMN_SPLITS", to_u32(column_splits))]);
    launch
}
