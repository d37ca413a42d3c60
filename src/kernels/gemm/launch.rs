//! What the families of matrix products share in running one.

use super::params::Params;
use crate::kernels::WgslFile;
use crate::kernels::gemm::problem::{Epilogue, Gemm, Matrix, ONE, PixelSet, Source};
use crate::kernels::{Launch, constant_bool, files, index};

/// Rows of C that become one if [`Gemm::pooled`].
const WINDOW_ROWS: usize = 4;

/// Results that one invocation keeps: `outer * inner` rows of `4 * columns4`.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub outer: usize,
    pub inner: usize,
    pub columns4: usize,
    /// From `inner` rows to the next.
    pub row_step: usize,
    /// From four columns to the next.
    pub column_step: usize,
    /// Rows that are stored at a time, of `inner`.
    pub store: usize,
}

impl Tile {
    /// Rows and columns that follow one another.
    pub fn dense(outer: usize, inner: usize, columns4: usize) -> Self {
        Tile { outer, inner, columns4, row_step: inner, column_step: 4, store: inner }
    }
}

pub(super) fn launch_gemm(
    kernel: &'static WgslFile,
    gemm: &Gemm,
    tile: Tile,
    workgroup: usize,
    grid: [u32; 3],
) -> Launch {
    let w = match gemm.source {
        Source::Matrix => &ONE,
        Source::Patches(ref window) | Source::Gradients(ref window) => window,
    };
    let (channels, by_taps) = (gemm.channels(), gemm.by_taps());
    // By rows, patches are summed tap by tap where a tap has four channels or more at a time.
    let (segment, depth, segments) = match gemm.source {
        Source::Matrix => (gemm.k, gemm.k, [1, 1]),
        _ if gemm.transpose_a => (channels, gemm.k, w.kernel),
        _ if by_taps => (gemm.k, gemm.k, [1, 1]),
        _ => (channels, channels, w.kernel),
    };
    // Gradients go the other way through the window.
    let back = matches!(gemm.source, Source::Gradients(_));
    let (from, to) = if back { (w.output, w.input) } else { (w.input, w.output) };
    let signed = |size: usize| if back { index(size).wrapping_neg() } else { index(size) };
    let b_segment = if gemm.transpose_b { gemm.n } else { segment } * gemm.b.stride;
    let pixel_set = gemm.pixel_set.unwrap_or(PixelSet {
        first: w.pad_begin.map(|pad| pad as i32),
        b_tap: [segments[1] * b_segment, b_segment],
        c_line: 0,
        c_image: 0,
        reached: true,
    });
    let pad = [0, 1]
        .map(|axis| if back { pixel_set.first[axis].wrapping_neg() } else { pixel_set.first[axis] } as u32);
    let params = Params {
        m: index(gemm.m),
        n: index(gemm.n),
        k: index(depth),
        a_stride: index(gemm.a.stride),
        b_stride: index(gemm.b.stride),
        c_stride: index(gemm.c.stride),
        a_group: index(gemm.a.group),
        b_group: index(gemm.b.group),
        c_group: index(gemm.c.group),
        a_offset: index(gemm.a.offset),
        b_offset: index(gemm.b.offset),
        c_offset: index(gemm.c.offset),
        m_per_row: index(gemm.m_per_row),
        k_per_row: index(gemm.k_per_row),
        first_row: index(gemm.first_row),
        accumulate: gemm.accumulate.into(),
        k_first: index(gemm.k_first),
        segment: index(segment),
        b_segment: index(pixel_set.b_tap[1]),
        epilogue: gemm.epilogue.number(),
        b_transposed: gemm.transpose_b.into(),
        height: index(from[0]),
        width: index(from[1]),
        out_height: index(to[0]),
        out_width: index(to[1]),
        kernel_h: if pixel_set.reached { index(segments[0]) } else { 0 },
        kernel_w: index(segments[1]),
        stride_h: index(w.stride[0]),
        stride_w: index(w.stride[1]),
        dilation_h: signed(w.dilation[0]),
        dilation_w: signed(w.dilation[1]),
        pad_top: pad[0],
        pad_left: pad[1],
        splits: index(gemm.splits),
        split_terms: index(gemm.split_terms()),
        c_split: index(gemm.m * gemm.c.stride),
        b_row: index(pixel_set.b_tap[0]).wrapping_sub(index(segments[1] * pixel_set.b_tap[1])),
        c_line: index(pixel_set.c_line),
        c_image: index(pixel_set.c_image),
    };
    let mut launch = Launch::new(kernel, &params, index(workgroup), grid)
        .flops(u64::from(pixel_set.reached) * (2 * gemm.groups * gemm.m * gemm.n) as u64 * gemm.k as u64)
        .iterations(gemm.k / 4 + w.taps() + w.kernel[0] + 8);
    // A window at a time.
    let tile = Tile { store: if gemm.pooled { WINDOW_ROWS } else { tile.store }, ..tile };
    // Odd matrices are small: element by element, one shader does for all of them.
    let fours = |matrix: &Matrix| gemm.source != Source::Matrix && matrix.is_vec4();
    let (store, extra) = if fours(&gemm.c) && gemm.n.is_multiple_of(4) {
        (&files::STORE_C_VEC4, &files::EXTRA_VEC4)
    } else {
        (&files::STORE_C_SCALAR, &files::EXTRA_SCALAR)
    };
    launch.snippets = vec![
        if fours(&gemm.a) { &files::FETCH_A_VEC4 } else { &files::FETCH_A_SCALAR },
        if fours(&gemm.b) { &files::FETCH_B_VEC4 } else { &files::FETCH_B_SCALAR },
        store,
        extra,
        &files::EPILOGUE,
    ];
    launch.snippets.extend(if gemm.pooled {
        vec![&files::STORE_POOLED, &files::LARGEST]
    } else {
        vec![&files::STORE_ROWS]
    });
    launch.snippets.extend(match (gemm.source, gemm.transpose_a) {
        (Source::Matrix, true) => vec![&files::A_COLUMNS_MATRIX],
        (Source::Matrix, false) => vec![&files::A_ROWS_MATRIX],
        (_, true) if by_taps => vec![&files::A_COLUMNS_CURSOR, &files::A_COLUMNS_TAPS],
        (_, true) => vec![&files::A_COLUMNS_CURSOR, &files::A_COLUMNS_PATCHES],
        (_, false) if by_taps => vec![&files::A_ROWS_TAPS],
        (_, false) => vec![&files::A_ROWS_PATCHES],
    });
    if by_taps && !gemm.transpose_a {
        launch.constants.extend([("KERNEL_W", index(w.kernel[1])), ("CHANNELS", index(gemm.k / w.taps()))]);
    }
    launch.constants.extend([
        ("OUTER", index(tile.outer)),
        ("INNER", index(tile.inner)),
        ("MOVES", index(tile.outer - 1)),
        ("COLUMNS4", index(tile.columns4)),
        ("ROW_STEP", index(tile.row_step)),
        ("COLUMN_STEP", index(tile.column_step)),
        ("STORE", index(tile.store)),
        ("WAITING", index(tile.inner - tile.store)),
    ]);
    launch.declarations.extend([
        constant_bool("B_TRANSPOSED", gemm.transpose_a && gemm.transpose_b),
        // Terms come in fours, but for patches by fours of channels; by columns their number depends on the batch.
        constant_bool("MASKED", gemm.transpose_a || by_taps || gemm.source == Source::Matrix),
        constant_bool("POOLED", gemm.pooled),
        constant_bool("PIXEL_SET", gemm.pixel_set.is_some()),
        constant_bool("RELU_GRAD", gemm.epilogue == Epilogue::ReluGrad),
        // Told at run time by columns in a subgroup: it costs nothing, and saves a shader.
        constant_bool("SPLIT", gemm.splits > 1 || (gemm.transpose_a && kernel.name == "gemm_subgroup")),
    ]);
    launch
}
