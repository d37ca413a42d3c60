use super::window::{Images, WINDOW, WINDOW_FIELDS, WINDOW_PARAMS, WindowParams};
use super::{GRID, Kernel, Launch, SCALARS, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "gather_patches",
    body: include_str!("../../shaders/gather_patches.wgsl"),
    snippets: &[&WINDOW_PARAMS, &WINDOW, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: WINDOW_FIELDS,
    params_bytes: size_of::<WindowParams>(),
};

const WORKGROUP: u32 = 64;

/// Some terms of every patch as the rows of a matrix `[images*oh*ow, terms]`; their number is a multiple of 4.
/// Buffers: terms (four words each), x, matrix.
pub fn gather_patches(images: &Images, terms: usize) -> Launch {
    let invocations = images.count * images.window.outputs() * terms / 4;
    Launch::new(&KERNEL, &WindowParams::new(images), WORKGROUP, grid_of(invocations, WORKGROUP))
}
