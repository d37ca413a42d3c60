use super::tile::{K_STEP, Tile, TileSet};
use crate::kernels::gemm::launch::{InvocationTile, launch_tiles};
use crate::kernels::gemm::problem::{Gemm, MIN_K_PER_SPLIT, Source};
use crate::kernels::{Launch, files, grid, to_u32};
use crate::wgsl::params;

/// Maximum rows or columns of a narrow GEMM, computed by the register family: most of a tile would be empty.
const NARROW: usize = 8;

/// Maximum number of splits: more make the sum of the partial results slow.
const MAX_SPLITS: usize = 128;

/// Time of a dispatch that adds partial results without their transfer, in the unit of [`Tile::time`]: 10 us
/// on a core that computes 256,000 multiply-adds per us.
const SUM_TIME: usize = 10 * 256_000;

/// Whether most of a tile would be empty.
pub(super) fn is_narrow(gemm: &Gemm) -> bool {
    gemm.m <= NARROW || gemm.n <= NARROW
}

/// Chooses the tile of a GEMM with its number of splits; `None` if the register family is expected to be
/// faster.
pub(super) fn choose(gemm: &Gemm, tiles: TileSet) -> Option<Tile> {
    fastest(gemm, tiles, gemm.splits).map(|(tile, _)| tile)
}

/// Chooses the number of splits of a GEMM that may be split.
pub(super) fn splits(gemm: &Gemm, tiles: TileSet) -> usize {
    let most = (gemm.k / MIN_K_PER_SPLIT).clamp(1, MAX_SPLITS);
    let candidates =
        std::iter::successors(Some(1), |splits| Some(2 * splits)).take_while(|&splits| splits <= most);
    candidates
        .filter_map(|splits| fastest(gemm, tiles, splits).map(|(_, time)| (splits, time)))
        .min_by_key(|&(_, time)| time)
        .map_or(1, |(splits, _)| splits)
}

/// Estimated time of a GEMM that occupies the device, with its best tile, in multiply-adds that the device computes
/// at its peak in this time; `None` for the register family.
pub(super) fn busy_time(gemm: &Gemm, tiles: TileSet) -> Option<usize> {
    let steps = gemm.k.next_multiple_of(K_STEP).saturating_mul(gemm.groups);
    let time = |tile: Tile| {
        tile.results(gemm.m, gemm.n).saturating_mul(steps).saturating_mul(100) / tile.efficiency()
    };
    if is_narrow(gemm) { None } else { tiles.tiles().map(time).min() }
}

/// Returns the fastest tile for a number of splits, and its estimated time in the unit of [`Tile::time`].
fn fastest(gemm: &Gemm, tiles: TileSet, splits: usize) -> Option<(Tile, usize)> {
    if is_narrow(gemm) {
        return None;
    }
    let time = |tile: Tile| {
        let count = tile.count(gemm.m, gemm.n) * gemm.groups * splits;
        // Writing and reading a partial result takes about as long as a third of a multiply-add on one core.
        let results = gemm.m * gemm.n * gemm.groups * splits;
        let sum = if splits == 1 { 0 } else { SUM_TIME + results / 3 };
        (tile, tile.time(count, gemm.k_divided_by(splits), tiles.cores()) + sum)
    };
    // Of tiles with equal times, as where the number of invocations limits all of them, the one with the fewest
    // empty results is faster: 64x16 by a sixth than 64x32 for weight gradients of 16 to 16 channels.
    tiles.tiles().map(time).min_by_key(|&(tile, time)| (time, tile.results(gemm.m, gemm.n)))
}

params! {
    struct StepParams {
        step_columns: u32,
        step_rows: u32,
        step_images: u32,
    }
}

/// Launches a GEMM with tiles in workgroup memory.
pub(super) fn launch(gemm: &Gemm, tile: Tile) -> Launch {
    let part = InvocationTile {
        row_step: 4 * tile.rows / tile.invocation_rows,
        column_step: 4 * tile.columns / tile.invocation_columns,
        ..InvocationTile::dense(tile.invocation_rows / 4, 4, tile.invocation_columns / 4)
    };
    let workgroup = tile.invocations();
    let grid = grid(tile.count(gemm.m, gemm.n), gemm.groups * gemm.splits);
    let mut launch = launch_tiles(&files::GEMM_TILED, gemm, part, workgroup, grid);
    launch.tile_flops = gemm.tile_flops(tile.results(gemm.m, gemm.n), K_STEP);
    let blocks = |side: usize| side / 4 * (K_STEP / 4);
    let [a_blocks, b_blocks] = [blocks(tile.rows), blocks(tile.columns)];
    let [a_loads, b_loads] = [a_blocks, b_blocks].map(|blocks| blocks.div_ceil(workgroup));
    // One iteration per step of k; each loader of a row-major A also advances over every segment.
    let segments = if gemm.transpose_a { 0 } else { gemm.k.div_ceil(gemm.channels().max(1)) };
    launch.iterations = gemm.k_per_split().div_ceil(K_STEP) + segments * (a_loads + b_loads) + 16;
    let shared = a_blocks + b_blocks <= workgroup;
    launch.constants.extend([
        ("A_LOADS", to_u32(a_loads)),
        ("B_LOADS", to_u32(b_loads)),
        ("B_FIRST", if shared { 0 } else { to_u32(a_loads) }),
        ("LOADS", if shared { 1 } else { to_u32(a_loads + b_loads) }),
    ]);
    add_loader(launch, gemm, [tile.rows, tile.columns], K_STEP)
}

/// Adds the loader of tiles of `rows` rows of A and `columns` columns of B.
pub(super) fn add_loader(launch: Launch, gemm: &Gemm, [rows, columns]: [usize; 2], k_step: usize) -> Launch {
    let mut launch = launch;
    let window = match gemm.source {
        Source::Matrix => None,
        Source::Patches(window) | Source::Gradients(window) => Some(window),
    };
    launch.constants.extend([
        ("TILE_ROWS", to_u32(rows)),
        ("TILE_COLUMNS", to_u32(columns)),
        ("K_STEP", to_u32(k_step)),
    ]);
    launch.declarations.push(crate::kernels::constant_bool("TRANSPOSED_B", gemm.transpose_b));
    if !gemm.transpose_a {
        launch.snippets.push(&files::GEMM_LOADER_ROWS);
        return launch;
    }
    // Steps of k begin at multiples of 4, and so do lines.
    let quads =
        window.is_none_or(|window| window.output[1].is_multiple_of(4) && gemm.k_first.is_multiple_of(4));
    launch.constants.push(("CURSORS", if quads { 1 } else { 4 }));
    launch.snippets.push(&files::GEMM_LOADER_COLUMNS);
    let Some(window) = window else {
        launch.snippets.push(&files::A_STEP_MATRIX);
        return launch;
    };
    launch.snippets.push(&files::A_STEP_PATCHES);
    let image = window.output[0] * window.output[1];
    let rest = k_step % image;
    launch.more_params(&StepParams {
        step_columns: to_u32(rest % window.output[1] * window.stride[1]),
        step_rows: to_u32(rest / window.output[1] * window.stride[0]),
        step_images: to_u32(k_step / image * window.input[0] * window.input[1] * gemm.a.stride),
    })
}
