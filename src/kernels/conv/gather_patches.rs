use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid_of};

const WORKGROUP: u32 = 64;

/// Gathers selected elements of every patch into the rows of a matrix `[images*oh*ow, elements]`; `elements`
/// is a multiple of 4. Buffers: elements (each is row, column, channel and 1, or four zeros as padding), x,
/// matrix.
pub fn gather_patches(images: &Images, elements: usize) -> Launch {
    let invocations = images.count * images.window.outputs() * elements / 4;
    Launch::new(
        &files::GATHER_PATCHES,
        &WindowParams::new(images),
        WORKGROUP,
        grid_of(invocations, WORKGROUP),
    )
}
