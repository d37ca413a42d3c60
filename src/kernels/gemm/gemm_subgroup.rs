use crate::kernels::gemm::launch::{Tile, launch_gemm};
use crate::kernels::gemm::problem::{Gemm, Source};
use crate::kernels::{Launch, constant_bool, files, grid, index};

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
    if gemm.specialized && gemm.transpose_a && wasted && gemm.m.is_multiple_of(36) { 36 } else { tallest }
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
    // What is pixel_set out goes by quads twice as wide, too, and shares a shader.
    let widest = if gemm.pixel_set.is_some() { 8 * QUAD } else { 4 * QUAD };
    let narrow = gemm.n <= widest && gemm.source != Source::Matrix;
    let rows = if narrow { rows(gemm).min(32) } else { rows(gemm) };
    let quads = narrow && gemm.m > rows;
    let lanes = if quads { QUAD } else { lanes };
    let inner = if gemm.transpose_a { 4 } else { lanes };
    let tile = Tile { store: STORE, ..Tile::dense(rows / inner, inner, 1) };
    let wide = if quads { QUAD } else { WORKGROUP };
    let tiles = gemm.m.div_ceil(rows * WORKGROUP / wide) * gemm.n.div_ceil(4 * wide);
    let mut launch =
        launch_gemm(&files::GEMM_SUBGROUP, gemm, tile, WORKGROUP, grid(tiles, gemm.groups * gemm.splits));
    launch.constants.push(("LANES", index(lanes)));
    launch.declarations.push(constant_bool("QUADS", quads));
    launch.snippets.push(if gemm.transpose_a {
        &files::GEMM_SUBGROUP_COLUMNS
    } else {
        &files::GEMM_SUBGROUP_ROWS
    });
    launch.snippets.push(if gemm.bias_grad { &files::BIAS_GRAD_STORED } else { &files::BIAS_GRAD_UNUSED });
    launch
}
