use crate::kernels::gemm::family::TileSize;
use crate::kernels::gemm::launch::{Tile, launch_gemm};
use crate::kernels::gemm::problem::{Gemm, SPLIT_TERMS};
use crate::kernels::{Launch, files, grid, index};

/// Rows or columns that a tile would mostly be empty with: such products go by registers alone.
const NARROW: usize = 8;

/// Large tiles that are worth it: with fewer, a product has more workgroups if they are small.
const ENOUGH: usize = 32;

/// Whether tiles would mostly be empty.
pub(super) fn is_narrow(gemm: &Gemm) -> bool {
    gemm.m <= NARROW || gemm.n <= NARROW
}

/// The tiles of a product: none where registers alone do better, and no larger than `largest`. Not measured on hardware yet.
pub(super) fn size(gemm: &Gemm, largest: TileSize) -> Option<TileSize> {
    if is_narrow(gemm) {
        return None;
    }
    let (small, large) = (TileSize::Small.side(), TileSize::Large.side());
    // Of a gradient's sum, splits are computed side by side as well.
    let splits = if gemm.transpose_a { (gemm.k / SPLIT_TERMS).max(1) } else { 1 };
    let tiles = gemm.m.div_ceil(large) * gemm.n.div_ceil(large) * gemm.groups;
    let wide = gemm.m > small && gemm.n > small;
    Some(if wide && tiles * splits >= ENOUGH { largest } else { TileSize::Small })
}

pub(super) fn launch(gemm: &Gemm, size: TileSize) -> Launch {
    let side = size.side();
    let tile = Tile { row_step: side / 2, column_step: side / 2, ..Tile::dense(2, 4, 2) };
    let tiles = gemm.m.div_ceil(side) * gemm.n.div_ceil(side);
    let workgroup = size.invocations() as usize;
    let step = TileSize::K_STEP;
    // A round for each step, and one for each four terms of it.
    let iterations = gemm.k.div_ceil(step) * (1 + step / 4) + 8;
    let mut launch =
        launch_gemm(&files::GEMM_TILED, gemm, tile, workgroup, grid(tiles, gemm.groups * gemm.splits))
            .iterations(iterations);
    launch.constants.extend([("SIDE", index(side)), ("K_STEP", index(step))]);
    launch.snippets.push(if gemm.transpose_a {
        &files::GEMM_LOADER_COLUMNS
    } else {
        &files::GEMM_LOADER_ROWS
    });
    launch
}
