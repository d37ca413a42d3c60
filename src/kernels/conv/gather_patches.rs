use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid_of};

const WORKGROUP: u32 = 64;

/// Some terms of every patch as the rows of a matrix `[images*oh*ow, terms]`; their number is a multiple of 4.
/// Buffers: terms (four words each), x, matrix.
pub fn gather_patches(images: &Images, terms: usize) -> Launch {
    let invocations = images.count * images.window.outputs() * terms / 4;
    Launch::new(
        &files::GATHER_PATCHES,
        &WindowParams::new(images),
        WORKGROUP,
        grid_of(invocations, WORKGROUP),
    )
}
