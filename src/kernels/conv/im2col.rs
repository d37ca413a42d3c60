use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid};

const WORKGROUP: u32 = 64;

/// Copies the patches under the window into the rows of a matrix `[groups, images*oh*ow,
/// kh*kw*channels/groups]`. Buffers: x, columns.
pub fn im2col(images: &Images) -> Launch {
    let depth = images.window.taps() * images.channels / images.groups;
    let elements = images.count * images.window.outputs() * depth;
    let vec4 = (images.channels / images.groups).is_multiple_of(4);
    let invocations = if vec4 { elements / 4 } else { elements };
    let groups = grid(invocations.div_ceil(WORKGROUP as usize), images.groups);
    Launch::new(&files::IM2COL, &WindowParams::new(images), WORKGROUP, groups).channel_vectors(vec4)
}
