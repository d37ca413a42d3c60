use crate::kernels::gemm::problem::Gemm;
use crate::kernels::{Launch, files, grid_of, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        count: u32,
        per_row: u32,
        first_row: u32,
        slices: u32,
        beside: u32,
    }
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
    let mut launch = Launch::new(&files::SLICE_SUM, &params, WORKGROUP, grid_of(elements, WORKGROUP))
        .flops((elements * (product.slices - 1)) as u64)
        .rounds(product.slices);
    launch.snippets.push(if product.sums { &files::SLICES_BESIDE } else { &files::SLICES_ALONE });
    launch
}
