use super::gemm::{FIELDS, GEMM, Gemm, Params, Tile, launch as launch_gemm};
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

pub(super) fn launch(gemm: &Gemm, lanes: usize) -> Launch {
    // Measured on software Vulkan: 16x8 is best, and 32x4 where 16x8 would leave lanes idle.
    let (rows, columns4) = if gemm.n <= 32 { (32, 1) } else { (16, 2) };
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
