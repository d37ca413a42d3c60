use super::{GRID, Kernel, Launch, SCALARS, grid_of, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "global_avg_pool_grad",
    body: include_str!("../../shaders/global_avg_pool_grad.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
    params: &[
        ("images", std::mem::offset_of!(Params, images)),
        ("pixels", std::mem::offset_of!(Params, pixels)),
        ("channels", std::mem::offset_of!(Params, channels)),
        ("inverse", std::mem::offset_of!(Params, inverse)),
    ],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    images: u32,
    pixels: u32,
    channels: u32,
    inverse: f32,
}

/// Each pixel's share of its channel's gradient. Buffers: dy, dx.
pub fn global_avg_pool_grad(images: usize, pixels: usize, channels: usize) -> Launch {
    let params = Params {
        images: index(images),
        pixels: index(pixels),
        channels: index(channels),
        inverse: (1.0 / pixels as f64) as f32,
    };
    let elements = images * pixels * channels;
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(elements, WORKGROUP)).flops(elements as u64)
}
