use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid_of};

const WORKGROUP: u32 = 64;

/// Adjoint of [`super::im2col()`]: each pixel sums its elements in all patches that contain it, as a gather.
/// Buffers: columns, dx.
pub fn col2im(images: &Images) -> Launch {
    let pixels = images.window.input[0] * images.window.input[1];
    let elements = images.count * pixels * images.channels;
    let vec4 = (images.channels / images.groups).is_multiple_of(4);
    let invocations = if vec4 { elements / 4 } else { elements };
    let groups = grid_of(invocations, WORKGROUP);
    Launch::new(&files::COL2IM, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * images.window.taps()) as u64)
        .iterations(images.window.taps() + images.window.kernel[0])
        .channel_vectors(vec4)
}
