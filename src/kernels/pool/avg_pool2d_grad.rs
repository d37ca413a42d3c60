use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid_of};
use std::ops::Range;

const WORKGROUP: u32 = 64;

/// Gradient of average pooling: distributes each dy equally over the averaged elements, for a range of
/// taps. Buffers: dy, dx.
pub fn avg_pool2d_grad(images: &Images, taps: &Range<usize>) -> Launch {
    let w = &images.window;
    let elements = images.count * w.input[0] * w.input[1] * images.channels;
    let vec4 = images.channels.is_multiple_of(4);
    let groups = grid_of(if vec4 { elements / 4 } else { elements }, WORKGROUP);
    Launch::new(&files::AVG_POOL2D_GRAD, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * taps.len()) as u64)
        .taps(w, taps)
        .channel_vectors(vec4)
}
