use crate::kernels::gemm::launch::{Tile, launch_tiles};
use crate::kernels::gemm::problem::{Gemm, Source};
use crate::kernels::{Launch, constant_bool, files, grid, to_u32};

/// Chooses the rows of a tile; a lane computes four columns of them. Measured on software Vulkan in GFLOP/s
/// with 16, 32, 64 rows: forward convolutions 29, 35, 42; weight gradients 29, 38, 28. Compilation takes
/// about 7 ms per row, so GEMMs that are not vectorized, and those of small k, whose time goes into stores,
/// get short tiles.
fn tile_rows(gemm: &Gemm) -> usize {
    let tallest = if gemm.transpose_a { 32 } else { 64 };
    if gemm.source == Source::Matrix || gemm.gathers_scalars() {
        return if gemm.source == Source::Matrix { 8 } else { 16 };
    }
    // A shorter tile for a small m saves work, at the cost of compiling another shader.
    if gemm.m <= 16 {
        return 16;
    }
    // Weight gradients of 3x3 kernels with few channels (a multiple of 4): at least a sixth of the rows of
    // 32-row tiles would be empty, and m is a multiple of 36.
    let wasteful = gemm.m.next_multiple_of(32) * 5 >= gemm.m * 6;
    if gemm.specialized && gemm.transpose_a && wasteful && gemm.m.is_multiple_of(36) { 36 } else { tallest }
}

/// Invocations per workgroup: one subgroup on software Vulkan. Another size would compile another shader.
const WORKGROUP: usize = 8;

/// Rows that are stored at a time: each additional row takes 30 ms to compile.
const STORE_ROWS: usize = 1;

/// Lanes that share the columns of a narrow GEMM.
const QUAD: usize = 4;

/// Launches a GEMM with subgroup broadcasts among `lanes` lanes.
pub(super) fn launch(gemm: &Gemm, lanes: usize) -> Launch {
    // With few columns, the second quad of a subgroup would have none: it computes other rows instead.
    // Unvectorized GEMMs are small and share one shader. Pixel sets use quads up to twice that width, so that
    // they share a shader too.
    let widest = if gemm.pixel_set.is_some() { 8 * QUAD } else { 4 * QUAD };
    let narrow = gemm.n <= widest && gemm.source != Source::Matrix;
    let rows = if narrow { tile_rows(gemm).min(32) } else { tile_rows(gemm) };
    let quad_rows = narrow && gemm.m > rows;
    let lanes = if quad_rows { QUAD } else { lanes };
    let inner = if gemm.transpose_a { 4 } else { lanes };
    let tile = Tile { store_rows: STORE_ROWS, ..Tile::dense(rows / inner, inner, 1) };
    let lanes_per_tile = if quad_rows { QUAD } else { WORKGROUP };
    let tiles = gemm.m.div_ceil(rows * WORKGROUP / lanes_per_tile) * gemm.n.div_ceil(4 * lanes_per_tile);
    let mut launch =
        launch_tiles(&files::GEMM_SUBGROUP, gemm, tile, WORKGROUP, grid(tiles, gemm.groups * gemm.splits));
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
