use super::gemm::{GEMM, Gemm, Source, Tile, launch as launch_gemm};
use super::gemm_params::{FIELDS, Params};
use super::{BITS, GRID, Kernel, Launch, SCALARS, Snippet, grid, index};

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

/// Rows of a tile of four columns a lane. Measured on software Vulkan, GFLOP/s with 16, 32, 64 rows: forward convolutions
/// 29, 35, 42; kernel gradients 29, 38, 28. Compiling takes about 7 ms a row, so products with odd sizes, and those with
/// few terms, where the stores decide, get short tiles.
fn rows(gemm: &Gemm) -> usize {
    let tallest = if gemm.transpose_a { 32 } else { 64 };
    if gemm.source == Source::Matrix || gemm.by_taps() {
        return if gemm.source == Source::Matrix { 8 } else { 16 };
    }
    // No more than there are; another text is compiled, though.
    if gemm.m <= 16 { 16 } else { tallest }
}

/// One subgroup on software Vulkan. Another size would be another shader to compile.
const WORKGROUP: usize = 8;

pub(super) fn launch(gemm: &Gemm, lanes: usize) -> Launch {
    let rows = rows(gemm);
    let inner = if gemm.transpose_a { 4 } else { lanes };
    let tile = Tile::dense(rows / inner, inner, 1);
    let tiles = gemm.m.div_ceil(rows) * gemm.n.div_ceil(4 * WORKGROUP);
    let mut launch = launch_gemm(&KERNEL, gemm, tile, WORKGROUP, grid(tiles, gemm.groups));
    launch.constants.push(("LANES", index(lanes)));
    launch.snippets.push(if gemm.transpose_a { &COLUMNS } else { &ROWS });
    launch
}
