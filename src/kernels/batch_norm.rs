use super::{Extent, GRID, Kernel, Launch, SCALARS, grid_of, index, width};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "batch_norm",
    body: include_str!("../../shaders/batch_norm.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[
        (2, Access::Read),
        (3, Access::Read),
        (4, Access::Read),
        (5, Access::Read),
        (6, Access::Read),
        (7, Access::ReadWrite),
    ],
    params: &[
        ("elements", std::mem::offset_of!(Params, elements)),
        ("per_row", std::mem::offset_of!(Params, per_row)),
        ("channels", std::mem::offset_of!(Params, channels)),
        ("from_variance", std::mem::offset_of!(Params, from_variance)),
        ("epsilon", std::mem::offset_of!(Params, epsilon)),
    ],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 256;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    elements: u32,
    per_row: u32,
    channels: u32,
    from_variance: u32,
    epsilon: f32,
}

/// `(x - mean)*inv_std*scale + shift` along the last axis; with an epsilon, `spread` is a variance.
/// Buffers: x, scale, shift, mean, spread, y.
pub fn batch_norm(extent: Extent, channels: usize, epsilon: Option<f64>) -> Launch {
    let params = Params {
        elements: index(extent.elements),
        per_row: index(extent.per_row),
        channels: index(channels),
        from_variance: u32::from(epsilon.is_some()),
        epsilon: epsilon.unwrap_or(0.0) as f32,
    };
    let width = width(channels);
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(extent.elements / width, WORKGROUP))
        .element(width == 4)
        .flops(4 * extent.elements as u64)
}
