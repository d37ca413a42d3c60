use super::gemm::{FIELDS, GEMM, Gemm, Params, Source, Tile, launch as launch_gemm};
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

/// Multiplications and additions from which on a tall tile pays for the time that it takes to compile.
const LARGE: usize = 1 << 28;

/// Rows of a tile of four columns a lane. Measured on software Vulkan, GFLOP/s with 16, 32, 64 rows: forward convolutions
/// 29, 35, 42; kernel gradients 29, 38, 28. Compiling takes about 7 ms a row, so small products and those with few terms,
/// where the stores decide, get short tiles.
fn rows(gemm: &Gemm) -> usize {
    let small = match gemm.source {
        Source::Matrix => gemm.groups * gemm.m * gemm.n * gemm.k * 2 < LARGE,
        Source::Patches(_) | Source::Gradients(_) => gemm.by_taps(),
    };
    // Enough workgroups for a few cores.
    let few = gemm.groups * gemm.m.div_ceil(64) * gemm.n.div_ceil(256) < 16;
    match (small, gemm.transpose_a || few) {
        (true, _) => 16,
        (_, true) => 32,
        _ => 64,
    }
}

pub(super) fn launch(gemm: &Gemm, lanes: usize) -> Launch {
    let (rows, columns4) = (rows(gemm), 1);
    let inner = if gemm.transpose_a { 4 } else { lanes };
    let tile = Tile { outer: rows / inner, inner, columns4 };
    let k_step = if gemm.transpose_a { lanes } else { 4 };
    let workgroup = gemm.n.div_ceil(4 * columns4).next_multiple_of(8).min(64);
    let tiles = gemm.m.div_ceil(rows) * gemm.n.div_ceil(4 * columns4 * workgroup);
    let mut launch = launch_gemm(&KERNEL, gemm, tile, k_step, workgroup, grid(tiles, gemm.groups));
    launch.constants.push(("LANES", index(lanes)));
    launch.snippets.push(if gemm.transpose_a { &COLUMNS } else { &ROWS });
    launch
}
