use crate::kernels::gemm::launch::{InvocationTile, launch_tiles};
use crate::kernels::gemm::problem::Gemm;
use crate::kernels::{Launch, files, grid};

/// Invocations per workgroup: a multiple of 8, because software Vulkan drivers fill SIMD lanes along x only.
const WORKGROUP: usize = 64;

/// Launches a GEMM in registers: 8 rows x 4 or 8 columns per invocation.
pub(super) fn launch(gemm: &Gemm) -> Launch {
    let tile = InvocationTile::dense(2, 4, if gemm.n <= 4 { 1 } else { 2 });
    let tiles = gemm.m.div_ceil(tile.outer * tile.inner) * gemm.n.div_ceil(4 * tile.columns4);
    let mut launch = launch_tiles(
        &files::GEMM_REGISTER,
        gemm,
        tile,
        WORKGROUP,
        grid(tiles.div_ceil(WORKGROUP), gemm.groups * gemm.splits),
    );
    launch.snippets.push(if gemm.transpose_a {
        &files::GEMM_REGISTER_COLUMNS
    } else {
        &files::GEMM_REGISTER_ROWS
    });
    launch
}
