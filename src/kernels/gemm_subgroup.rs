use super::gemm_launch::{GEMM, Tile, launch as launch_gemm};
use super::gemm_params::{FIELDS, Params};
use super::gemm_product::{Gemm, Source};
use super::{BITS, GRID, Kernel, Launch, SCALARS, Snippet, constant_bool, grid, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "gemm_subgroup",
    body: include_str!("../../shaders/gemm_subgroup.wgsl"),
    snippets: &[&GEMM, &SCALARS, &GRID, &BITS],
    bindings: &[],
    params: FIELDS,
    params_bytes: size_of::<Params>(),
};

static ROWS: Snippet = Snippet {
    name: "gemm_subgroup_rows",
    text: include_str!("../../shaders/shared/gemm_subgroup_rows.wgsl"),
    bindings: &[],
};
static COLUMNS: Snippet = Snippet {
    name: "gemm_subgroup_columns",
    text: include_str!("../../shaders/shared/gemm_subgroup_columns.wgsl"),
    bindings: &[],
};
static SUMS_STORED: Snippet = Snippet {
    name: "sums_stored",
    text: include_str!("../../shaders/shared/sums_stored.wgsl"),
    bindings: &[(6, Access::ReadWrite)],
};
static SUMS_UNUSED: Snippet = Snippet {
    name: "sums_unused",
    text: include_str!("../../shaders/shared/sums_unused.wgsl"),
    bindings: &[],
};

/// Rows of a tile of four columns a lane. Measured on software Vulkan, GFLOP/s with 16, 32, 64 rows: forward convolutions
/// 29, 35, 42; kernel gradients 29, 38, 28. Compiling takes about 7 ms a row, so products with odd sizes, and those with
/// few terms, where the stores decide, get short tiles.
fn rows(gemm: &Gemm) -> usize {
    let tallest = if gemm.transpose_a { 32 } else { 64 };
    if gemm.source == Source::Matrix || gemm.by_taps() {
        return if gemm.source == Source::Matrix { 8 } else { 16 };
    }
    // No more than there are; another text is compiled, though.
    if gemm.m <= 16 {
        return 16;
    }
    // Few filters of 3x3 kernels by fours: a fifth or more of a tile of 32 rows would be wasted.
    let wasted = gemm.m.next_multiple_of(32) * 5 >= gemm.m * 6;
    if gemm.patient && gemm.transpose_a && wasted && gemm.m.is_multiple_of(36) { 36 } else { tallest }
}

/// One subgroup on software Vulkan. Another size would be another shader to compile.
const WORKGROUP: usize = 8;

/// Rows that are stored at a time: each more takes 30 ms to compile.
const STORE: usize = 1;

/// Lanes that share in products of few columns.
const QUAD: usize = 4;

pub(super) fn launch(gemm: &Gemm, lanes: usize) -> Launch {
    // Two quads side by side would leave one without columns: it takes rows of its own. Odd matrices are small, and share a
    // shader rather.
    // What is spread out goes by quads twice as wide, too, and shares a shader.
    let widest = if gemm.spread.is_some() { 8 * QUAD } else { 4 * QUAD };
    let narrow = gemm.n <= widest && gemm.source != Source::Matrix;
    let rows = if narrow { rows(gemm).min(32) } else { rows(gemm) };
    let quads = narrow && gemm.m > rows;
    let lanes = if quads { QUAD } else { lanes };
    let inner = if gemm.transpose_a { 4 } else { lanes };
    let tile = Tile { store: STORE, ..Tile::dense(rows / inner, inner, 1) };
    let wide = if quads { QUAD } else { WORKGROUP };
    let tiles = gemm.m.div_ceil(rows * WORKGROUP / wide) * gemm.n.div_ceil(4 * wide);
    let mut launch = launch_gemm(&KERNEL, gemm, tile, WORKGROUP, grid(tiles, gemm.groups * gemm.slices));
    launch.constants.push(("LANES", index(lanes)));
    launch.declarations.push(constant_bool("QUADS", quads));
    launch.snippets.push(if gemm.transpose_a { &COLUMNS } else { &ROWS });
    launch.snippets.push(if gemm.sums { &SUMS_STORED } else { &SUMS_UNUSED });
    launch
}
