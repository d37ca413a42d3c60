use super::tile::{K_STEP, TILES, Tile, TileSet};
use crate::kernels::gemm::launch::{InvocationTile, launch_tiles};
use crate::kernels::gemm::problem::{Gemm, MIN_K_PER_SPLIT, Source};
use crate::kernels::{Launch, constant_bool, files, grid, to_u32};
use crate::shape::WindowGeometry;
use crate::wgsl::params;

/// Maximum number of splits: enough for a weight gradient of one tile to occupy 132 cores.
const MAX_SPLITS: usize = 512;

/// Time that a dispatch that adds partial results takes without their transfer, in the unit of [`Tile::time`]: 20 us
/// on a core that computes 256,000 multiply-adds per us. An H200 takes 6 to 7 us, and some more between two dispatches;
/// from 6 to 20 us, the choices for the measured shapes take the same time within 0.3 %, and 20 us transfer least.
const SUM_TIME: usize = 20 * 256_000;

/// Chooses the tile of a GEMM with its number of splits.
pub(super) fn choose(gemm: &Gemm, tiles: TileSet) -> Tile {
    fastest(gemm, tiles, gemm.splits).0
}

/// Chooses the number of splits of a GEMM that may be split.
pub(super) fn splits(gemm: &Gemm, tiles: TileSet) -> usize {
    let most = (gemm.k / MIN_K_PER_SPLIT).clamp(1, MAX_SPLITS);
    let candidates =
        std::iter::successors(Some(1), |splits| Some(2 * splits)).take_while(|&splits| splits <= most);
    candidates.min_by_key(|&splits| fastest(gemm, tiles, splits).1).unwrap_or(1)
}

/// Estimated time of a GEMM that occupies the device, with its best tile, in multiply-adds that the device computes
/// at its peak in this time.
pub(super) fn busy_time(gemm: &Gemm, tiles: TileSet) -> usize {
    let steps = gemm.k.next_multiple_of(K_STEP).saturating_mul(gemm.groups);
    let time = |tile: Tile| {
        tile.results(gemm.m, gemm.n).saturating_mul(steps).saturating_mul(100) / tile.efficiency()
    };
    tiles.tiles().map(time).fold(usize::MAX, usize::min)
}

/// Returns the fastest tile for a number of splits, and its estimated time in the unit of [`Tile::time`].
fn fastest(gemm: &Gemm, tiles: TileSet, splits: usize) -> (Tile, usize) {
    // Writing and reading a partial result (8 bytes) takes as long as a multiply-add on one core: 2 TB/s for
    // 256 G multiply-adds per second.
    let results = gemm.m * gemm.n * gemm.groups * splits;
    let sum = if splits == 1 { 0 } else { SUM_TIME + results };
    let time = |tile: Tile| {
        let count = tile.count(gemm.m, gemm.n) * gemm.groups * splits;
        (tile, tile.time(count, gemm.k_divided_by(splits), tiles.cores()) + sum)
    };
    // Of tiles with equal times, as where the number of invocations limits all of them, the one with the fewest
    // empty results is faster: 64x16 by a sixth than 64x32 for weight gradients of 16 to 16 channels.
    let all = tiles.tiles().map(time);
    all.min_by_key(|&(tile, time)| (time, tile.results(gemm.m, gemm.n))).unwrap_or((TILES[0], usize::MAX))
}

params! {
    /// Distances that the loader of a row-major or a transposed A advances by, unsigned with wrap-around.
    struct LoaderParams {
        b_k_stride: u32,
        b_step: u32,
    }
}

params! {
    struct RowsParams {
        a_segment_step: u32,
        b_segment_step: u32,
        kernel_row_end: u32,
        a_kernel_row_step: u32,
    }
}

params! {
    struct StepParams {
        step_columns: u32,
        step_rows: u32,
        step_offset: u32,
        line_columns: u32,
        line_end_offset: u32,
        image_rows: u32,
        image_end_offset: u32,
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
    let mut launch = launch_tiles(&files::GEMM_TILED, gemm, part, workgroup, grid, Some(K_STEP));
    launch.tile_flops = gemm.tile_flops(tile.results(gemm.m, gemm.n), K_STEP);
    let blocks = |side: usize| side / 4 * (K_STEP / 4);
    let [a_blocks, b_blocks] = [blocks(tile.rows), blocks(tile.columns)];
    let [a_loads, b_loads] = [a_blocks, b_blocks].map(|blocks| blocks.div_ceil(workgroup));
    // One iteration per step of k; the loader of a row-major A also advances over every segment.
    let segments = gemm.segments();
    launch.iterations = gemm.k_per_split().div_ceil(K_STEP) + segments + 16;
    let shared = a_blocks + b_blocks <= workgroup;
    launch.constants.extend([
        ("A_LOADS", to_u32(a_loads)),
        ("B_LOADS", to_u32(b_loads)),
        ("B_FIRST", if shared { 0 } else { to_u32(a_loads) }),
        ("LOADS", if shared { 1 } else { to_u32(a_loads + b_loads) }),
    ]);
    launch.declarations.push(constant_bool("SHARED_LOADS", shared));
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
    let b_k_stride = if gemm.transpose_b { 1 } else { gemm.b.stride };
    launch.declarations.extend([
        constant_bool("TRANSPOSED_B", gemm.transpose_b),
        constant_bool("WHOLE_STEPS", gemm.has_whole_steps(k_step)),
    ]);
    let launch = launch
        .more_params(&LoaderParams { b_k_stride: to_u32(b_k_stride), b_step: to_u32(k_step * b_k_stride) });
    if gemm.transpose_a { add_columns(launch, gemm, window, k_step) } else { add_rows(launch, k_step) }
}

/// Adds the loader of a row-major A.
fn add_rows(launch: Launch, k_step: usize) -> Launch {
    let parameter = |name| launch.parameter(name);
    let [segment, kernel_w] = ["segment_length", "kernel_w"].map(parameter);
    let [dilation_h, dilation_w] = ["dilation_h", "dilation_w"].map(parameter);
    let [width, a_stride, b_k_stride] = ["width", "a_stride", "b_k_stride"].map(parameter);
    let kernel_row_end = kernel_w.wrapping_mul(dilation_w);
    let params = RowsParams {
        a_segment_step: dilation_w.wrapping_mul(a_stride).wrapping_sub(segment),
        b_segment_step: parameter("b_segment_stride").wrapping_sub(segment.wrapping_mul(b_k_stride)),
        kernel_row_end,
        a_kernel_row_step: dilation_h.wrapping_mul(width).wrapping_sub(kernel_row_end).wrapping_mul(a_stride),
    };
    let mut launch = launch.more_params(&params);
    launch.declarations.push(constant_bool("SHORT_SEGMENTS", segment < to_u32(k_step)));
    launch.snippets.push(&files::GEMM_LOADER_ROWS);
    launch
}

/// Adds the loader of a transposed A.
fn add_columns(launch: Launch, gemm: &Gemm, window: Option<WindowGeometry>, k_step: usize) -> Launch {
    let mut launch = launch;
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
    let [height, width] = window.input;
    let [out_height, out_width] = window.output;
    let image = out_height * out_width;
    let rest = k_step % image;
    let [step_rows, step_columns] =
        [rest / out_width * window.stride[0], rest % out_width * window.stride[1]];
    let step_images = k_step / image;
    let [image_rows, line_columns] = [out_height * window.stride[0], out_width * window.stride[1]];
    let offset = |rows: usize, columns: usize| to_u32((rows * width + columns) * gemm.a.stride);
    launch.more_params(&StepParams {
        step_columns: to_u32(step_columns),
        step_rows: to_u32(step_rows),
        step_offset: offset(step_images * height + step_rows, step_columns),
        line_columns: to_u32(line_columns),
        line_end_offset: offset(window.stride[0], 0).wrapping_sub(offset(0, line_columns)),
        image_rows: to_u32(image_rows),
        image_end_offset: offset(height, 0).wrapping_sub(offset(image_rows, 0)),
    })
}
