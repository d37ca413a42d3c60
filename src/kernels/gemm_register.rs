use super::gemm_launch::{GEMM, Tile, launch as launch_gemm};
use super::gemm_params::{FIELDS, Params};
use super::gemm_product::Gemm;
use super::{BITS, GRID, Kernel, Launch, SCALARS, Snippet, grid};

pub(super) static KERNEL: Kernel = Kernel {
    name: "gemm_register",
    body: include_str!("../../shaders/gemm_register.wgsl"),
    snippets: &[&GEMM, &SCALARS, &GRID, &BITS],
    bindings: &[],
    params: FIELDS,
    params_bytes: size_of::<Params>(),
};

static ROWS: Snippet = Snippet {
    name: "gemm_register_rows",
    text: include_str!("../../shaders/shared/gemm_register_rows.wgsl"),
    bindings: &[],
};
static COLUMNS: Snippet = Snippet {
    name: "gemm_register_columns",
    text: include_str!("../../shaders/shared/gemm_register_columns.wgsl"),
    bindings: &[],
};

/// A multiple of 8: software Vulkan fills its lanes along x alone.
const WORKGROUP: usize = 64;

pub(super) fn launch(gemm: &Gemm) -> Launch {
    let tile = Tile::dense(2, 4, if gemm.n <= 4 { 1 } else { 2 });
    let tiles = gemm.m.div_ceil(tile.outer * tile.inner) * gemm.n.div_ceil(4 * tile.columns4);
    let mut launch = launch_gemm(
        &KERNEL,
        gemm,
        tile,
        WORKGROUP,
        grid(tiles.div_ceil(WORKGROUP), gemm.groups * gemm.slices),
    );
    launch.snippets.push(if gemm.transpose_a { &COLUMNS } else { &ROWS });
    launch
}
