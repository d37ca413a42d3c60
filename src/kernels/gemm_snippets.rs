//! The ways in which products read their operands and store their results.

use super::Snippet;
use crate::gpu::Access;

pub(super) static FETCH_A_VEC4: Snippet = Snippet {
    name: "fetch_a_vec4",
    text: include_str!("../../shaders/shared/fetch_a_vec4.wgsl"),
    bindings: &[(2, Access::Read)],
};
pub(super) static FETCH_A_SCALAR: Snippet = Snippet {
    name: "fetch_a_scalar",
    text: include_str!("../../shaders/shared/fetch_a_scalar.wgsl"),
    bindings: &[(2, Access::Read)],
};
pub(super) static FETCH_B_VEC4: Snippet = Snippet {
    name: "fetch_b_vec4",
    text: include_str!("../../shaders/shared/fetch_b_vec4.wgsl"),
    bindings: &[(3, Access::Read)],
};
pub(super) static FETCH_B_SCALAR: Snippet = Snippet {
    name: "fetch_b_scalar",
    text: include_str!("../../shaders/shared/fetch_b_scalar.wgsl"),
    bindings: &[(3, Access::Read)],
};
pub(super) static STORE_C_VEC4: Snippet = Snippet {
    name: "store_c_vec4",
    text: include_str!("../../shaders/shared/store_c_vec4.wgsl"),
    bindings: &[(4, Access::ReadWrite)],
};
pub(super) static STORE_C_SCALAR: Snippet = Snippet {
    name: "store_c_scalar",
    text: include_str!("../../shaders/shared/store_c_scalar.wgsl"),
    bindings: &[(4, Access::ReadWrite)],
};
pub(super) static A_ROWS_MATRIX: Snippet = Snippet {
    name: "a_rows_matrix",
    text: include_str!("../../shaders/shared/a_rows_matrix.wgsl"),
    bindings: &[],
};
pub(super) static A_ROWS_PATCHES: Snippet = Snippet {
    name: "a_rows_patches",
    text: include_str!("../../shaders/shared/a_rows_patches.wgsl"),
    bindings: &[],
};
pub(super) static A_COLUMNS_MATRIX: Snippet = Snippet {
    name: "a_columns_matrix",
    text: include_str!("../../shaders/shared/a_columns_matrix.wgsl"),
    bindings: &[],
};
pub(super) static A_COLUMNS_PATCHES: Snippet = Snippet {
    name: "a_columns_patches",
    text: include_str!("../../shaders/shared/a_columns_patches.wgsl"),
    bindings: &[],
};
pub(super) static A_ROWS_TAPS: Snippet = Snippet {
    name: "a_rows_taps",
    text: include_str!("../../shaders/shared/a_rows_taps.wgsl"),
    bindings: &[],
};
pub(super) static A_COLUMNS_CURSOR: Snippet = Snippet {
    name: "a_columns_cursor",
    text: include_str!("../../shaders/shared/a_columns_cursor.wgsl"),
    bindings: &[],
};
pub(super) static A_COLUMNS_TAPS: Snippet = Snippet {
    name: "a_columns_taps",
    text: include_str!("../../shaders/shared/a_columns_taps.wgsl"),
    bindings: &[],
};
pub(super) static STORE_ROWS: Snippet =
    Snippet { name: "store_rows", text: include_str!("../../shaders/shared/store_rows.wgsl"), bindings: &[] };
pub(super) static STORE_POOLED: Snippet = Snippet {
    name: "store_pooled",
    text: include_str!("../../shaders/shared/store_pooled.wgsl"),
    bindings: &[(6, Access::ReadWrite)],
};
pub(super) static EPILOGUE: Snippet =
    Snippet { name: "epilogue", text: include_str!("../../shaders/shared/epilogue.wgsl"), bindings: &[] };
pub(super) static EXTRA_VEC4: Snippet = Snippet {
    name: "extra_vec4",
    text: include_str!("../../shaders/shared/extra_vec4.wgsl"),
    bindings: &[(5, Access::Read)],
};
pub(super) static EXTRA_SCALAR: Snippet = Snippet {
    name: "extra_scalar",
    text: include_str!("../../shaders/shared/extra_scalar.wgsl"),
    bindings: &[(5, Access::Read)],
};
pub(super) static LOADER: Snippet = Snippet {
    name: "gemm_loader",
    text: include_str!("../../shaders/shared/gemm_loader.wgsl"),
    bindings: &[],
};
pub(super) static LOADER_ROWS: Snippet = Snippet {
    name: "gemm_loader_rows",
    text: include_str!("../../shaders/shared/gemm_loader_rows.wgsl"),
    bindings: &[],
};
pub(super) static LOADER_COLUMNS: Snippet = Snippet {
    name: "gemm_loader_columns",
    text: include_str!("../../shaders/shared/gemm_loader_columns.wgsl"),
    bindings: &[],
};
