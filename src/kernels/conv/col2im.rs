use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid_of};
use std::ops::Range;

const WORKGROUP: u32 = 64;

/// Adjoint of [`super::im2col()`]: each pixel sums its elements in all patches that contain it, as a gather,
/// for a range of taps. Buffers: columns, dx.
pub fn col2im(images: &Images, taps: &Range<usize>) -> Launch {
    let pixels = images.window.input[0] * images.window.input[1];
    let elements = images.count * pixels * images.channels;
    let vec4 = (images.channels / images.groups).is_multiple_of(4);
    let invocations = if vec4 { elements / 4 } else { elements };
    let groups = grid_of(invocations, WORKGROUP);
    Launch::new(&files::COL2IM, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * taps.len()) as u64)
        .taps(&images.window, taps)
        .channel_vectors(vec4)
}
