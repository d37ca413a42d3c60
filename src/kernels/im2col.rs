use super::window::{Images, WINDOW, WINDOW_FIELDS, WINDOW_PARAMS, WindowParams};
use super::{GRID, Kernel, Launch, SCALARS, grid};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "im2col",
    body: include_str!("../../shaders/im2col.wgsl"),
    snippets: &[&WINDOW_PARAMS, &WINDOW, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
    params: WINDOW_FIELDS,
    params_bytes: size_of::<WindowParams>(),
};

const WORKGROUP: u32 = 64;

/// The patches under the window as the rows of a matrix `[groups, images*oh*ow, kh*kw*channels/groups]`.
/// Buffers: x, columns.
pub fn im2col(images: &Images) -> Launch {
    let depth = images.window.taps() * images.channels / images.groups;
    let elements = images.count * images.window.outputs() * depth;
    let vec4 = (images.channels / images.groups).is_multiple_of(4);
    let invocations = if vec4 { elements / 4 } else { elements };
    let groups = grid(invocations.div_ceil(WORKGROUP as usize), images.groups);
    Launch::new(&KERNEL, &WindowParams::new(images), WORKGROUP, groups).element(vec4)
}
