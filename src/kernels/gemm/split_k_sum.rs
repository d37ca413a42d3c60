use crate::kernels::gemm::problem::Gemm;
use crate::kernels::{Launch, files, grid_of, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        count: u32,
        per_row: u32,
        first_row: u32,
        splits: u32,
        beside: u32,
    }
}

/// Adds up the splits of a product, `[splits, m, groups * n]`, and of the sums of B's columns if it has them, `[splits, groups * n]`.
/// Buffers: splits, C; then splits of sums, sums.
pub fn split_k_sum(product: &Gemm) -> Launch {
    let row = product.n * product.groups;
    let count = product.m * row;
    let beside = if product.bias_grad { row } else { 0 };
    let params = Params {
        count: index(count),
        per_row: index(product.m_per_row * row),
        first_row: index(product.first_row),
        splits: index(product.splits),
        beside: index(beside),
    };
    let elements = count + beside;
    let mut launch = Launch::new(&files::SPLIT_K_SUM, &params, WORKGROUP, grid_of(elements, WORKGROUP))
        .flops((elements * (product.splits - 1)) as u64)
        .iterations(product.splits);
    launch.snippets.push(if product.bias_grad {
        &files::SPLIT_K_WITH_BIAS_GRAD
    } else {
        &files::SPLIT_K_GEMM_ONLY
    });
    launch
}
