use super::{GRID, Gemm, Kernel, Launch, SCALARS, grid_of, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "slice_sum",
    body: include_str!("../../shaders/slice_sum.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
    params: &[
        ("count", std::mem::offset_of!(Params, count)),
        ("per_row", std::mem::offset_of!(Params, per_row)),
        ("first_row", std::mem::offset_of!(Params, first_row)),
        ("slices", std::mem::offset_of!(Params, slices)),
    ],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    count: u32,
    per_row: u32,
    first_row: u32,
    slices: u32,
}

/// Adds up the slices of a product, `[slices, m, groups * n]`. Buffers: slices, C.
pub fn slice_sum(product: &Gemm) -> Launch {
    let row = product.n * product.groups;
    let count = product.m * row;
    let params = Params {
        count: index(count),
        per_row: index(product.m_per_row * row),
        first_row: index(product.first_row),
        slices: index(product.slices),
    };
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(count, WORKGROUP))
        .flops((count * (product.slices - 1)) as u64)
        .rounds(product.slices)
}
