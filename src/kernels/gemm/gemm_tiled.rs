use crate::kernels::gemm::family::TileSize;
use crate::kernels::gemm::launch::{Tile, launch_tiles};
use crate::kernels::gemm::problem::{Gemm, MIN_K_PER_SPLIT};
use crate::kernels::{Launch, files, grid, to_u32};

/// Maximum rows or columns of a narrow GEMM, computed by the register family: most of a tile would be empty.
const NARROW: usize = 8;

/// Minimum number of large tiles: if there were fewer, small tiles are used, which occupy more workgroups.
const MIN_LARGE_TILES: usize = 32;

/// Whether most of a tile would be empty.
pub(super) fn is_narrow(gemm: &Gemm) -> bool {
    gemm.m <= NARROW || gemm.n <= NARROW
}

/// Chooses the tile size of a GEMM, at most `largest`; `None` if the register family is expected to be
/// faster. Not yet measured on hardware.
pub(super) fn size(gemm: &Gemm, largest: TileSize) -> Option<TileSize> {
    if is_narrow(gemm) {
        return None;
    }
    let (small, large) = (TileSize::Small.side(), TileSize::Large.side());
    // Weight gradients are computed with split-K, whose splits run in parallel as well.
    let splits = if gemm.transpose_a { (gemm.k / MIN_K_PER_SPLIT).max(1) } else { 1 };
    let tiles = gemm.m.div_ceil(large) * gemm.n.div_ceil(large) * gemm.groups;
    let fills_large = gemm.m > small && gemm.n > small;
    Some(if fills_large && tiles * splits >= MIN_LARGE_TILES { largest } else { TileSize::Small })
}

/// Launches a GEMM with tiles in workgroup memory.
pub(super) fn launch(gemm: &Gemm, size: TileSize) -> Launch {
    let side = size.side();
    let tile = Tile { row_step: side / 2, column_step: side / 2, ..Tile::dense(2, 4, 2) };
    let tiles = gemm.m.div_ceil(side) * gemm.n.div_ceil(side);
    let workgroup = size.invocations() as usize;
    let step = TileSize::K_STEP;
    // One iteration per step of k, and one per four k within the step.
    let iterations = gemm.k.div_ceil(step) * (1 + step / 4) + 8;
    let mut launch =
        launch_tiles(&files::GEMM_TILED, gemm, tile, workgroup, grid(tiles, gemm.groups * gemm.splits))
            .iterations(iterations);
    launch.constants.extend([("SIDE", to_u32(side)), ("K_STEP", to_u32(step))]);
    launch.snippets.push(if gemm.transpose_a {
        &files::GEMM_LOADER_COLUMNS
    } else {
        &files::GEMM_LOADER_ROWS
    });
    launch
}
