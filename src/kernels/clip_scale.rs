use super::{BITS, Kernel, Launch, SCALARS, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "clip_scale",
    body: include_str!("../../shaders/clip_scale.wgsl"),
    snippets: &[&SCALARS, &BITS],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
    params: &[("parts", std::mem::offset_of!(Params, parts)), ("most", std::mem::offset_of!(Params, most))],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 256;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    parts: u32,
    most: f32,
}

/// The norm from the parts of its square, and what gradients are multiplied by for it to be `most` or less. Buffers:
/// parts, sums.
pub fn clip_scale(parts: usize, most: f64) -> Launch {
    let params = Params { parts: index(parts), most: most as f32 };
    Launch::new(&KERNEL, &params, WORKGROUP, [1, 1, 1])
        .flops(parts as u64)
        .rounds(parts.div_ceil(WORKGROUP as usize) + WORKGROUP as usize)
}
