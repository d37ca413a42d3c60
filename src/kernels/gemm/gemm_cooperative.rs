use crate::kernels::gemm::launch::{Tile, launch_gemm};
use crate::kernels::gemm::problem::{Gemm, Operand};
use crate::kernels::{Launch, files, grid, index};

/// Rows and columns of a workgroup's tile.
const SIDE: usize = 64;

/// Invocations of a workgroup: four subgroups, and enough to load a step of 16 terms.
pub(super) fn workgroup(lanes: usize) -> usize {
    (4 * lanes).max(64)
}

fn k_step(lanes: usize) -> usize {
    (workgroup(lanes) / 4).min(32)
}

/// Bytes of workgroup memory: a step of both operands, whose terms lie 8 elements further apart than needed,
/// and a quarter of the results.
pub(super) fn workgroup_memory(lanes: usize) -> u32 {
    index(2 * 2 * (SIDE + 8) * k_step(lanes) + SIDE * SIDE)
}

/// What gradients are multiplied by before they become f16 (and the results divided by): f16 has no numbers below 6e-8, and
/// few below 6e-5. What is then beyond 65,504 becomes that, so gradients are cut at 63.97.
const GRADIENT_SCALE: u32 = 1024;

/// The product with matrices of `side` x `side` and subgroups of up to `lanes`.
pub(super) fn launch(gemm: &Gemm, side: usize, lanes: usize) -> Launch {
    let tile = Tile::dense(1, 4, 1);
    let tiles = gemm.m.div_ceil(SIDE) * gemm.n.div_ceil(SIDE);
    let (workgroup, step) = (workgroup(lanes), k_step(lanes));
    let iterations = gemm.k.div_ceil(step) * (1 + step / side) + 16;
    let grid = grid(tiles, gemm.groups * gemm.splits);
    let scale = |operand| if gemm.gradient == Some(operand) { GRADIENT_SCALE } else { 1 };
    let mut launch =
        launch_gemm(&files::GEMM_COOPERATIVE, gemm, tile, workgroup, grid).iterations(iterations);
    // Each subgroup has squares of 2 x 2 matrices.
    let squares = (SIDE / (2 * side)).pow(2);
    launch.constants.extend([
        ("SIDE", index(SIDE)),
        ("K_STEP", index(step)),
        ("MATRIX", index(side)),
        ("SQUARES", index(squares)),
        ("SQUARES_EACH", index(squares.div_ceil(workgroup / lanes))),
    ]);
    launch.declarations.extend([
        format!("alias MatrixA = coop_mat{side}x{side}<f16, A>;"),
        format!("alias MatrixB = coop_mat{side}x{side}<f16, B>;"),
        format!("alias MatrixC = coop_mat{side}x{side}<f32, C>;"),
        format!("const A_SCALE: f32 = {}.0;", scale(Operand::A)),
        format!("const B_SCALE: f32 = {}.0;", scale(Operand::B)),
    ]);
    launch.snippets.push(if gemm.transpose_a {
        &files::GEMM_LOADER_COLUMNS
    } else {
        &files::GEMM_LOADER_ROWS
    });
    launch
}
