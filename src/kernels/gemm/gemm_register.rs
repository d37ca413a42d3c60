use crate::kernels::gemm::launch::{InvocationTile, launch_tiles};
use crate::kernels::gemm::problem::Gemm;
use crate::kernels::{Launch, files, grid};

/// Invocations per workgroup: a multiple of 8, because software Vulkan drivers fill SIMD lanes along x only.
const WORKGROUP: usize = 64;

/// Share of a GPU's peak that GEMMs in registers reach, in percent, estimated: of the issue slots of their main
/// loop, 25 to 32 % are multiply-adds on NVIDIA and 44 to 61 % on RDNA 3 (Mesa's compilers), and the few tiles of a
/// narrow GEMM fill about 60 % of the lanes of workgroups.
const EFFICIENCY: usize = 20;

/// Rows stored per loop iteration: with four, SwiftShader compiles for a third longer, and steps take no less time.
const STORE_ROWS: usize = 1;

/// Tile of an invocation: 8 rows x 4 or 8 columns.
fn tile(gemm: &Gemm) -> InvocationTile {
    let columns4 = if gemm.n <= 4 { 1 } else { 2 };
    InvocationTile { store_rows: STORE_ROWS, ..InvocationTile::dense(2, 4, columns4) }
}

/// Number of tiles of one group.
fn tiles(gemm: &Gemm) -> usize {
    let tile = tile(gemm);
    gemm.m.div_ceil(tile.outer * tile.inner) * gemm.n.div_ceil(4 * tile.columns4)
}

/// Number of results of one group, those in the empty rows and columns of tiles included.
fn results(gemm: &Gemm) -> usize {
    let tile = tile(gemm);
    tiles(gemm) * tile.outer * tile.inner * 4 * tile.columns4
}

/// Estimated time if the GEMM occupies the device, in multiply-adds that the device computes at its peak in this time.
pub(super) fn busy_time(gemm: &Gemm) -> usize {
    results(gemm).saturating_mul(gemm.groups).saturating_mul(gemm.k).saturating_mul(100) / EFFICIENCY
}

/// Launches a GEMM in registers.
pub(super) fn launch(gemm: &Gemm) -> Launch {
    let (tile, tiles) = (tile(gemm), tiles(gemm));
    let mut launch = launch_tiles(
        &files::GEMM_REGISTER,
        gemm,
        tile,
        WORKGROUP,
        grid(tiles.div_ceil(WORKGROUP), gemm.groups * gemm.splits),
        None,
    );
    launch.tile_flops = gemm.tile_flops(results(gemm), 4);
    launch.snippets.push(if gemm.transpose_a {
        &files::GEMM_REGISTER_COLUMNS
    } else {
        &files::GEMM_REGISTER_ROWS
    });
    launch
}
