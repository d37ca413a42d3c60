use crate::kernels::gemm::launch::{InvocationTile, launch_tiles};
use crate::kernels::gemm::problem::{Gemm, Source};
use crate::kernels::{Launch, constant_bool, files, grid, to_u32};

/// Chooses the number of rows of a tile; each lane computes four columns of it. Measured on software Vulkan
/// in GFLOP/s with 16, 32, 64 rows: forward convolutions 29, 35, 42; weight gradients 29, 38, 28. Compilation
/// takes about 7 ms per row, so tiles are short for GEMMs that are not vectorized, and for GEMMs with a small
/// k, where stores take most of the time.
fn tile_rows(gemm: &Gemm) -> usize {
    let tallest = if gemm.transpose_a { 32 } else { 64 };
    if gemm.source == Source::Matrix || gemm.gathers_scalars() {
        return if gemm.source == Source::Matrix { 8 } else { 16 };
    }
    // For a small m, a shorter tile has fewer empty rows but needs another shader to be compiled.
    if gemm.m <= 16 {
        return 16;
    }
    // Weight gradients of 3x3 kernels with few channels (a multiple of 4): m is a multiple of 36, and with
    // tiles of 32 rows at least a sixth of all rows would be empty.
    let wasteful = gemm.m.next_multiple_of(32) * 5 >= gemm.m * 6;
    if gemm.specialized && gemm.transpose_a && wasteful && gemm.m.is_multiple_of(36) { 36 } else { tallest }
}

/// Invocations per workgroup: one subgroup on software Vulkan. All GEMMs use this size, because each
/// additional size would need another shader.
const WORKGROUP: usize = 8;

/// Rows stored per loop iteration: each additional row adds 30 ms of compile time.
const STORE_ROWS: usize = 1;

/// Number of lanes that share the columns of a narrow GEMM.
const QUAD: usize = 4;

/// Launches a GEMM with subgroup broadcasts among `lanes` lanes.
pub(super) fn launch(gemm: &Gemm, lanes: usize) -> Launch {
    // In a GEMM with few columns, the second quad (four lanes) of a subgroup would have no columns, so it
    // computes other rows instead. Unvectorized GEMMs are small and share one shader. Pixel sets use quads up
    // to twice that width, so that all pixel sets share a shader too.
    let widest = if gemm.pixel_set.is_some() { 8 * QUAD } else { 4 * QUAD };
    let narrow = gemm.n <= widest && gemm.source != Source::Matrix;
    let rows = if narrow { tile_rows(gemm).min(32) } else { tile_rows(gemm) };
    let quad_rows = narrow && gemm.m > rows;
    let lanes = if quad_rows { QUAD } else { lanes };
    let inner = if gemm.transpose_a { 4 } else { lanes };
    let tile = InvocationTile { store_rows: STORE_ROWS, ..InvocationTile::dense(rows / inner, inner, 1) };
    let lanes_per_tile = if quad_rows { QUAD } else { WORKGROUP };
    let tiles = gemm.m.div_ceil(rows * WORKGROUP / lanes_per_tile) * gemm.n.div_ceil(4 * lanes_per_tile);
    let mut launch = launch_tiles(
        &files::GEMM_SUBGROUP,
        gemm,
        tile,
        WORKGROUP,
        grid(tiles, gemm.groups * gemm.splits),
        None,
    );
    launch.tile_flops = gemm.tile_flops(tiles * rows * WORKGROUP * 4, 4);
    launch.constants.push(("LANES", to_u32(lanes)));
    launch.declarations.push(constant_bool("QUAD_ROWS", quad_rows));
    launch.snippets.push(if gemm.transpose_a {
        &files::GEMM_SUBGROUP_COLUMNS
    } else {
        &files::GEMM_SUBGROUP_ROWS
    });
    launch.snippets.push(if gemm.bias_grad { &files::BIAS_GRAD_STORED } else { &files::BIAS_GRAD_UNUSED });
    launch
}
