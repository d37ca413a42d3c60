use super::gemm_tiled::add_loader;
use crate::kernels::gemm::launch::{InvocationTile, launch_tiles};
use crate::kernels::gemm::problem::{Gemm, Operand};
use crate::kernels::{Launch, files, grid, to_u32};

/// Rows and columns of a workgroup's tile.
const SIDE: usize = 64;

/// Invocations per workgroup: four subgroups, but at least 64, so that each invocation loads one 4 x 4 block
/// of both operands in a k step of 16.
pub(super) fn workgroup(lanes: usize) -> usize {
    (4 * lanes).max(64)
}

fn k_step(lanes: usize) -> usize {
    (workgroup(lanes) / 4).min(32)
}

/// Bytes of workgroup memory: one k step of both operands in f16, with 8 elements of padding per row to avoid
/// bank conflicts, and a quarter of the results in f32.
pub(super) fn workgroup_memory(lanes: usize) -> u32 {
    to_u32(2 * 2 * SIDE * (k_step(lanes) + 8) + SIDE * SIDE)
}

/// Factor by which gradients are multiplied before they are rounded to f16; the results are divided by it.
/// The smallest positive f16 is 6e-8, and precision decreases below 6e-5. Scaled values beyond 65,504 are
/// clamped, so gradients are clamped at 63.97.
const GRADIENT_SCALE: u32 = 1024;

/// Factors of both operands.
pub(super) fn scales(gemm: &Gemm) -> [u32; 2] {
    [Operand::A, Operand::B].map(|operand| if gemm.gradient == Some(operand) { GRADIENT_SCALE } else { 1 })
}

/// Launches a GEMM with cooperative matrices of `side` x `side` and subgroups of up to `lanes`.
pub(super) fn launch(gemm: &Gemm, side: usize, lanes: usize) -> Launch {
    let tile = InvocationTile::dense(1, 4, 1);
    let tiles = gemm.m.div_ceil(SIDE) * gemm.n.div_ceil(SIDE);
    let (workgroup, step) = (workgroup(lanes), k_step(lanes));
    let segments = gemm.segments();
    let iterations = gemm.k_per_split().div_ceil(step) + segments + 16;
    let grid = grid(tiles, gemm.groups * gemm.splits);
    let [a_scale, b_scale] = scales(gemm);
    // Stored operands are scaled and rounded already.
    let half = |operand: &str| {
        let (number, value) = if gemm.stored_f16 {
            ("f16", "x".to_owned())
        } else {
            ("f32", format!("to_f16({operand}_SCALE * x)"))
        };
        let name = operand.to_lowercase();
        format!("fn half_{name}(x: vec4<{number}>) -> vec4<f16> {{ return {value}; }}")
    };
    let mut launch = launch_tiles(&files::GEMM_COOPERATIVE, gemm, tile, workgroup, grid, Some(step))
        .iterations(iterations);
    launch.tile_flops = gemm.tile_flops(tiles * SIDE * SIDE, step);
    // A subgroup computes subtiles of 2 x 2 matrices.
    let subtiles = (SIDE / (2 * side)).pow(2);
    launch.constants.extend([
        ("MATRIX_SIDE", to_u32(side)),
        ("MATRICES_PER_STEP", to_u32(step / side)),
        ("SUBTILES", to_u32(subtiles)),
        ("SUBTILES_PER_SUBGROUP", to_u32(subtiles.div_ceil(workgroup / lanes))),
    ]);
    launch.declarations.extend([
        format!("alias MatrixA = coop_mat{side}x{side}<f16, A>;"),
        format!("alias MatrixB = coop_mat{side}x{side}<f16, B>;"),
        format!("alias MatrixC = coop_mat{side}x{side}<f32, C>;"),
        format!("const A_SCALE: f32 = {}.0;", a_scale),
        format!("const B_SCALE: f32 = {}.0;", b_scale),
        half("A"),
        half("B"),
    ]);
    add_loader(launch, gemm, [SIDE, SIDE], step)
}
