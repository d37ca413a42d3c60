use super::{GRID, Gemm, Kernel, Launch, SCALARS, Snippet, grid_of, index};
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
        ("beside", std::mem::offset_of!(Params, beside)),
    ],
    params_bytes: size_of::<Params>(),
};

static BESIDE: Snippet = Snippet {
    name: "slices_beside",
    text: include_str!("../../shaders/shared/slices_beside.wgsl"),
    bindings: &[(4, Access::Read), (5, Access::ReadWrite)],
};
static ALONE: Snippet = Snippet {
    name: "slices_alone",
    text: include_str!("../../shaders/shared/slices_alone.wgsl"),
    bindings: &[],
};

const WORKGROUP: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    count: u32,
    per_row: u32,
    first_row: u32,
    slices: u32,
    beside: u32,
}

/// Adds up the slices of a product, `[slices, m, groups * n]`, and of the sums of B's columns if it has them, `[slices, groups * n]`.
/// Buffers: slices, C; then slices of sums, sums.
pub fn slice_sum(product: &Gemm) -> Launch {
    let row = product.n * product.groups;
    let count = product.m * row;
    let beside = if product.sums { row } else { 0 };
    let params = Params {
        count: index(count),
        per_row: index(product.m_per_row * row),
        first_row: index(product.first_row),
        slices: index(product.slices),
        beside: index(beside),
    };
    let elements = count + beside;
    let mut launch = Launch::new(&KERNEL, &params, WORKGROUP, grid_of(elements, WORKGROUP))
        .flops((elements * (product.slices - 1)) as u64)
        .rounds(product.slices);
    launch.snippets.push(if product.sums { &BESIDE } else { &ALONE });
    launch
}
