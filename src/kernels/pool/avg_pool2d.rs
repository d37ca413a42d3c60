use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid_of};
use std::ops::Range;

const WORKGROUP: u32 = 64;

/// Average pooling over the elements of each window that lie on the image, for a range of taps.
/// Buffers: x, y.
pub fn avg_pool2d(images: &Images, taps: &Range<usize>) -> Launch {
    let elements = images.count * images.window.outputs() * images.channels;
    let vec4 = images.channels.is_multiple_of(4);
    let groups = grid_of(if vec4 { elements / 4 } else { elements }, WORKGROUP);
    Launch::new(&files::AVG_POOL2D, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * taps.len()) as u64)
        .taps(&images.window, taps)
        .channel_vectors(vec4)
}
