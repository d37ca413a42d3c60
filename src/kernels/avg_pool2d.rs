use super::window::{Images, WINDOW, WINDOW_FIELDS, WINDOW_PARAMS, WindowParams};
use super::{GRID, Kernel, Launch, SCALARS, Snippet, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "avg_pool2d",
    body: include_str!("../../shaders/avg_pool2d.wgsl"),
    snippets: &[&AVERAGE, &WINDOW_PARAMS, &WINDOW, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
    params: WINDOW_FIELDS,
    params_bytes: size_of::<WindowParams>(),
};

pub(super) static AVERAGE: Snippet =
    Snippet { name: "average", text: include_str!("../../shaders/shared/average.wgsl"), bindings: &[] };

const WORKGROUP: u32 = 64;

/// Means over the image's part of each window. Buffers: x, y.
pub fn avg_pool2d(images: &Images) -> Launch {
    let elements = images.count * images.window.outputs() * images.channels;
    let vec4 = images.channels.is_multiple_of(4);
    let groups = grid_of(if vec4 { elements / 4 } else { elements }, WORKGROUP);
    Launch::new(&KERNEL, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * images.window.taps()) as u64)
        .rounds(images.window.taps() + images.window.kernel[0])
        .element(vec4)
}
