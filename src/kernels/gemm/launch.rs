//! Shared part of launching a GEMM: parameters, tile of an invocation, choice of the WGSL files.

use crate::kernels::WgslFile;
use crate::kernels::gemm::problem::{Epilogue, Gemm, Matrix, ONE, PixelSet, Source};
use crate::kernels::{Launch, constant_bool, files, to_u32};
use crate::wgsl::params;

params! {
    struct Params {
        m: u32,
        n: u32,
        k: u32,
        a_stride: u32,
        b_stride: u32,
        c_stride: u32,
        a_group_stride: u32,
        b_group_stride: u32,
        c_group_stride: u32,
        a_offset: u32,
        b_offset: u32,
        c_offset: u32,
        m_per_example: u32,
        k_per_example: u32,
        first_example: u32,
        accumulate: u32,
        k_begin: u32,
        segment_length: u32,
        b_segment_stride: u32,
        epilogue: u32,
        b_transposed: u32,
        height: u32,
        width: u32,
        out_height: u32,
        out_width: u32,
        kernel_h: u32,
        kernel_w: u32,
        stride_h: u32,
        stride_w: u32,
        dilation_h: u32,
        dilation_w: u32,
        pad_top: u32,
        pad_left: u32,
        splits: u32,
        k_per_split: u32,
        c_split_stride: u32,
        b_kernel_row_stride: u32,
        c_line_stride: u32,
        c_image_stride: u32,
    }
}

/// Pixels of the pooling window of [`Gemm::pooled`]: this many rows of the result become one row of C.
const POOL_PIXELS: usize = 4;

/// InvocationTile of results that one invocation computes: `outer * inner` rows of `4 * columns4` columns.
#[derive(Clone, Copy)]
pub(super) struct InvocationTile {
    pub outer: usize,
    pub inner: usize,
    pub columns4: usize,
    /// Distance between the starts of consecutive groups of `inner` rows.
    pub row_step: usize,
    /// Distance between the starts of consecutive groups of four columns.
    pub column_step: usize,
    /// Rows of a group that are stored per loop iteration.
    pub store_rows: usize,
}

impl InvocationTile {
    /// Contiguous rows and columns, stored `inner` rows at a time.
    pub fn dense(outer: usize, inner: usize, columns4: usize) -> Self {
        InvocationTile { outer, inner, columns4, row_step: inner, column_step: 4, store_rows: inner }
    }
}

/// Builds the launch of a family's kernel with the given tile, workgroup size and grid. `k_step` is the step of
/// k of a family that loads whole steps.
pub(super) fn launch_tiles(
    kernel: &'static WgslFile,
    gemm: &Gemm,
    tile: InvocationTile,
    workgroup: usize,
    grid: [u32; 3],
    k_step: Option<usize>,
) -> Launch {
    let w = match gemm.source {
        Source::Matrix => &ONE,
        Source::Patches(ref window) | Source::Gradients(ref window) => window,
    };
    let (channels, scalar_patches) = (gemm.channels(), gemm.gathers_scalars());
    // Segments of k: for row-major A, patches that are loaded as vec4 have one segment per tap.
    let (segment, depth, segments) = match gemm.source {
        Source::Matrix => (gemm.k, gemm.k, [1, 1]),
        _ if gemm.transpose_a => (channels, gemm.k, w.kernel),
        _ if scalar_patches => (gemm.k, gemm.k, [1, 1]),
        _ => (channels, channels, w.kernel),
    };
    // A transposed A is loaded in a single loop over k.
    let segment_loops = if gemm.transpose_a { 0 } else { segments[0] * (1 + segments[1]) };
    // An input gradient exchanges the roles of input and output, and negates dilation and padding.
    let input_grad = matches!(gemm.source, Source::Gradients(_));
    let (from, to) = if input_grad { (w.output, w.input) } else { (w.input, w.output) };
    let signed = |size: usize| if input_grad { to_u32(size).wrapping_neg() } else { to_u32(size) };
    let b_segment = if gemm.transpose_b { gemm.n } else { segment } * gemm.b.stride;
    let pixel_set = gemm.pixel_set.unwrap_or(PixelSet {
        first: w.pad_begin.map(|pad| pad as i32),
        b_tap: [segments[1] * b_segment, b_segment],
        c_line: 0,
        c_image: 0,
        reached: true,
    });
    let pad = [0, 1].map(|axis| {
        let first = pixel_set.first[axis];
        (if input_grad { first.wrapping_neg() } else { first }) as u32
    });
    let params = Params {
        m: to_u32(gemm.m),
        n: to_u32(gemm.n),
        k: to_u32(depth),
        a_stride: to_u32(gemm.a.stride),
        b_stride: to_u32(gemm.b.stride),
        c_stride: to_u32(gemm.c.stride),
        a_group_stride: to_u32(gemm.a.group),
        b_group_stride: to_u32(gemm.b.group),
        c_group_stride: to_u32(gemm.c.group),
        a_offset: to_u32(gemm.a.offset),
        b_offset: to_u32(gemm.b.offset),
        c_offset: to_u32(gemm.c.offset),
        m_per_example: to_u32(gemm.m_per_row),
        k_per_example: to_u32(gemm.k_per_row),
        first_example: to_u32(gemm.first_row),
        accumulate: gemm.accumulate.into(),
        k_begin: to_u32(gemm.k_first),
        segment_length: to_u32(segment),
        b_segment_stride: to_u32(pixel_set.b_tap[1]),
        epilogue: gemm.epilogue.number(),
        b_transposed: gemm.transpose_b.into(),
        height: to_u32(from[0]),
        width: to_u32(from[1]),
        out_height: to_u32(to[0]),
        out_width: to_u32(to[1]),
        kernel_h: if pixel_set.reached { to_u32(segments[0]) } else { 0 },
        kernel_w: to_u32(segments[1]),
        stride_h: to_u32(w.stride[0]),
        stride_w: to_u32(w.stride[1]),
        dilation_h: signed(w.dilation[0]),
        dilation_w: signed(w.dilation[1]),
        pad_top: pad[0],
        pad_left: pad[1],
        splits: to_u32(gemm.splits),
        k_per_split: to_u32(gemm.k_per_split()),
        c_split_stride: to_u32(gemm.m * gemm.c.stride),
        b_kernel_row_stride: to_u32(pixel_set.b_tap[0])
            .wrapping_sub(to_u32(segments[1] * pixel_set.b_tap[1])),
        c_line_stride: to_u32(pixel_set.c_line),
        c_image_stride: to_u32(pixel_set.c_image),
    };
    let mut launch = Launch::new(kernel, &params, to_u32(workgroup), grid)
        .flops(u64::from(pixel_set.reached) * (2 * gemm.groups * gemm.m * gemm.n) as u64 * gemm.k as u64)
        .iterations(gemm.k_per_split().div_ceil(4) + segment_loops + 8);
    launch.in_place = gemm.accumulate;
    launch.written_elements = gemm.pixel_set.map(|_| gemm.m * gemm.n * gemm.groups);
    // With fused pooling, one window is stored per iteration.
    let tile = InvocationTile { store_rows: if gemm.pooled { POOL_PIXELS } else { tile.store_rows }, ..tile };
    // GEMMs of plain matrices (those with rows that are not multiples of 4) are small: one scalar shader
    // serves all of them.
    let is_vec4 = |matrix: &Matrix| gemm.source != Source::Matrix && matrix.is_vec4();
    let (store, extra) = if is_vec4(&gemm.c) && gemm.n.is_multiple_of(4) {
        (&files::STORE_C_VEC4, &files::EXTRA_VEC4)
    } else {
        (&files::STORE_C_SCALAR, &files::EXTRA_SCALAR)
    };
    launch.snippets = vec![
        if is_vec4(&gemm.a) { &files::FETCH_A_VEC4 } else { &files::FETCH_A_SCALAR },
        if is_vec4(&gemm.b) { &files::FETCH_B_VEC4 } else { &files::FETCH_B_SCALAR },
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
        (_, true) if scalar_patches => vec![&files::A_COLUMNS_CURSOR, &files::A_COLUMNS_PATCHES_SCALAR],
        (_, true) => vec![&files::A_COLUMNS_CURSOR, &files::A_COLUMNS_PATCHES_VEC4],
        (_, false) if scalar_patches => vec![&files::A_ROWS_PATCHES_SCALAR],
        (_, false) => vec![&files::A_ROWS_PATCHES_VEC4],
    });
    if scalar_patches && !gemm.transpose_a {
        let channels = gemm.k / w.taps();
        launch.constants.extend([("KERNEL_W", to_u32(w.kernel[1])), ("CHANNELS", to_u32(channels))]);
    }
    launch.constants.extend([
        ("OUTER", to_u32(tile.outer)),
        ("INNER", to_u32(tile.inner)),
        ("OUTER_SHIFTS", to_u32(tile.outer - 1)),
        ("COLUMNS4", to_u32(tile.columns4)),
        ("ROW_STEP", to_u32(tile.row_step)),
        ("COLUMN_STEP", to_u32(tile.column_step)),
        ("STORE_ROWS", to_u32(tile.store_rows)),
        ("INNER_SHIFTS", to_u32(tile.inner - tile.store_rows)),
    ]);
    // Loads along k need no mask if the length of a segment is a multiple of 4. With a transposed A they are
    // always masked, because the length depends on the number of valid examples.
    let masked = gemm.transpose_a || scalar_patches || gemm.source == Source::Matrix;
    let masked = masked && !k_step.is_some_and(|step| gemm.has_whole_steps(step));
    // For the families of software adapters with a transposed A, the number of splits is a run-time parameter: it has
    // no cost, and one shader serves all numbers of splits. In registers, the kind of epilogue is one as well.
    let registers = kernel.name == "gemm_register";
    let split = gemm.splits > 1 || (gemm.transpose_a && (registers || kernel.name == "gemm_subgroup"));
    // Code that adds to C compiles slowly where several rows are stored at a time. The subgroup family stores one, and one
    // shader serves all parts of a weight gradient.
    let accumulate = gemm.accumulate || kernel.name == "gemm_subgroup";
    let number = if gemm.stored_f16 { "f16" } else { "f32" };
    launch.declarations.extend([
        format!("alias NumberA = {number};"),
        format!("alias NumberB = {number};"),
        constant_bool("B_TRANSPOSED", gemm.transpose_a && gemm.transpose_b),
        constant_bool("MASKED", masked),
        constant_bool("ACCUMULATE", accumulate),
        constant_bool("POOLED", gemm.pooled),
        constant_bool("PIXEL_SET", gemm.pixel_set.is_some()),
        constant_bool("ANY_EPILOGUE", registers),
        constant_bool("RELU_GRAD", !registers && gemm.epilogue == Epilogue::ReluGrad),
        constant_bool("SPLIT", split),
    ]);
    launch
}
