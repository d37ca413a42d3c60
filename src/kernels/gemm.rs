//! Matrix products in every family: what they share, and the choice.

use super::gemm_params::Params;
use super::gemm_snippets::{
    A_COLUMNS_CURSOR, A_COLUMNS_MATRIX, A_COLUMNS_PATCHES, A_COLUMNS_TAPS, A_ROWS_MATRIX, A_ROWS_PATCHES,
    A_ROWS_TAPS, EPILOGUE, EXTRA_SCALAR, EXTRA_VEC4, FETCH_A_SCALAR, FETCH_A_VEC4, FETCH_B_SCALAR,
    FETCH_B_VEC4, RULE_NONE, STORE_C_SCALAR, STORE_C_VEC4, STORE_POOLED, STORE_ROWS,
};
use super::split::slice_terms;
use super::{
    GemmFamily, Kernel, LARGEST, Launch, Snippet, constant_bool, gemm_cooperative, gemm_register,
    gemm_subgroup, gemm_tiled, index,
};
use crate::shape::WindowGeometry;

pub(super) static GEMM: Snippet =
    Snippet { name: "gemm", text: include_str!("../../shaders/shared/gemm.wgsl"), bindings: &[] };

/// Terms in one loop over k, four at a time: a multiple of 8 with which it stays well below [`super::MOST_ROUNDS`].
pub const MOST_TERMS: usize = 131_072;

/// Where a matrix lies in its buffer, in elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    /// From one stored row to the next.
    pub stride: usize,
    /// From one group's matrix to the next.
    pub group: usize,
    /// Where the first group's begins.
    pub offset: usize,
}

impl Matrix {
    /// Rows of `stride` elements, one group, from the buffer's beginning.
    pub fn rows(stride: usize) -> Self {
        Matrix { stride, group: 0, offset: 0 }
    }

    fn by_fours(&self) -> bool {
        [self.stride, self.group, self.offset].iter().all(|x| x.is_multiple_of(4))
    }
}

/// What the rows of A are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Rows of a matrix.
    Matrix,
    /// Patches of images, gathered where they are used: row r under output pixel r, k over taps and then channels.
    /// The stride of A is from pixel to pixel.
    Patches(WindowGeometry),
    /// What output pixels give back to input pixel r at stride 1, k over taps and then output channels (a multiple of 4).
    Gradients(WindowGeometry),
}

/// What is done to each result before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// Nothing.
    None,
    /// Adds the bias of its column (the groups' columns one after the other), then ReLU if asked for.
    Bias {
        /// Whether ReLU follows.
        relu: bool,
    },
    /// Zero where the result of a ReLU, at the same place, is not above 0: its gradient.
    ReluGrad,
}

impl Epilogue {
    /// Its number in shaders.
    pub(super) fn number(self) -> u32 {
        match self {
            Epilogue::None => 0,
            Epilogue::Bias { relu } => 1 + u32::from(relu),
            Epilogue::ReluGrad => 3,
        }
    }
}

/// Of a gradient that goes back through a stride: the pixels that the same taps reach are rows of one product. They lie apart in C, and
/// their taps in B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The row and the column of A's images under the first pixel's first tap.
    pub first: [i32; 2],
    /// From a tap's part of B to the one below and to the one beside it.
    pub b_tap: [usize; 2],
    /// From a line of pixels in C to the next.
    pub c_line: usize,
    /// From an image in C to the next.
    pub c_image: usize,
    /// Whether any tap reaches the pixels; if not, results are 0.
    pub reached: bool,
}

/// `C = op(A) * op(B)`, once for each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// The summed axis.
    pub k: usize,
    /// A, stored `[m, k]`, or `[k, m]` if transposed.
    pub a: Matrix,
    /// B, stored `[k, n]`, or `[n, k]` if transposed.
    pub b: Matrix,
    /// C, stored `[m, n]`.
    pub c: Matrix,
    /// What the rows of A are.
    pub source: Source,
    /// A is stored transposed; of patches: the product is with the transposed patches.
    pub transpose_a: bool,
    /// B is stored transposed.
    pub transpose_b: bool,
    /// How many products.
    pub groups: usize,
    /// Rows of C that belong to one example; 0 if they do not depend on the batch.
    pub m_per_row: usize,
    /// Terms of the sum that belong to one example; 0 if they do not depend on the batch.
    pub k_per_row: usize,
    /// The example with which `m` or `k` begins.
    pub first_row: usize,
    /// The term with which this part of the sum begins; `a` and `b` begin there.
    pub k_first: usize,
    /// Adds to C what is there.
    pub accumulate: bool,
    /// What is done to each result.
    pub epilogue: Epilogue,
    /// Worth a shader of its own: it is compiled later than before the first step.
    pub patient: bool,
    /// Also stores the sums of B's columns, `[slices, groups * n]`: a bias's gradient beside its kernel's. B is not cut, A is
    /// transposed, and the family is [`GemmFamily::Subgroup`]; in others it is ignored.
    pub sums: bool,
    /// Stores, of each 2x2 window of results, the largest, and to another buffer its number in the window: C and that have a row
    /// for each. Of patches by rows, where `n` and the rows of C come in fours and `output` is even; not in slices.
    pub pooled: bool,
    /// Where rows of C and taps of B lie, if not one after the other; of [`Source::Gradients`].
    pub spread: Option<Spread>,
    /// How many parts of the sum are computed side by side, each into a C of its own behind the one before; with more than
    /// one, nothing is added to C, and there is no epilogue. See [`super::slices`].
    pub slices: usize,
}

impl Gemm {
    /// `C [m, n] = A [m, k] * B [k, n]`, all stored plainly.
    pub fn plain(m: usize, n: usize, k: usize) -> Self {
        Gemm {
            m,
            n,
            k,
            a: Matrix::rows(k),
            b: Matrix::rows(n),
            c: Matrix::rows(n),
            source: Source::Matrix,
            transpose_a: false,
            transpose_b: false,
            groups: 1,
            m_per_row: 0,
            k_per_row: 0,
            first_row: 0,
            k_first: 0,
            accumulate: false,
            epilogue: Epilogue::None,
            patient: false,
            sums: false,
            pooled: false,
            spread: None,
            slices: 1,
        }
    }

    /// Channels of a patch's tap; all terms of a matrix.
    fn channels(&self) -> usize {
        let terms = if self.transpose_a { self.m } else { self.k };
        match self.source {
            Source::Matrix => terms,
            Source::Patches(window) | Source::Gradients(window) => terms / window.taps(),
        }
    }

    /// Whether patches are gathered element by element.
    pub(super) fn by_taps(&self) -> bool {
        self.source != Source::Matrix && !self.channels().is_multiple_of(4)
    }

    /// A product of matrices whose rows come in fours is one with patches of one pixel: so they share a pipeline.
    fn as_patches(&self) -> Gemm {
        let whole = self.k_first == 0
            && [self.n, if self.transpose_a { self.m } else { self.k }].iter().all(|x| x.is_multiple_of(4));
        let fours = self.a.by_fours() && self.b.by_fours() && self.c.by_fours();
        let source = match (self.source, self.transpose_a, self.transpose_b) {
            (Source::Matrix, _, false) if whole && fours => Source::Patches(ONE),
            (Source::Matrix, false, true) if whole && fours => Source::Gradients(ONE),
            (source, ..) => source,
        };
        Gemm { source, ..*self }
    }

    /// The product as parts that are to run one after the other, each with a sum short enough for one loop.
    pub fn parts(&self) -> Vec<Gemm> {
        let part = |first: usize| {
            let length = MOST_TERMS.min(self.k - first);
            let along = |matrix: Matrix, by_columns: bool| Matrix {
                offset: matrix.offset + first * if by_columns { 1 } else { matrix.stride },
                ..matrix
            };
            Gemm {
                k: length,
                k_first: first,
                // Patches are found by k_first.
                a: if self.source == Source::Matrix { along(self.a, !self.transpose_a) } else { self.a },
                b: along(self.b, self.transpose_b),
                accumulate: self.accumulate || first > 0,
                epilogue: if first + length == self.k { self.epilogue } else { Epilogue::None },
                ..*self
            }
        };
        (0..self.k).step_by(MOST_TERMS).map(part).collect()
    }
}

/// Rows of C that become one if [`Gemm::pooled`].
const WINDOW_ROWS: usize = 4;

/// The window of a plain matrix.
const ONE: WindowGeometry = WindowGeometry {
    kernel: [1, 1],
    stride: [1, 1],
    dilation: [1, 1],
    pad_begin: [0, 0],
    input: [1, 1],
    output: [1, 1],
};

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

/// The product in a family. Buffers: a, b, c, what the epilogue reads (anything, if nothing), the sums of columns or the
/// windows' positions if asked for.
pub fn gemm(gemm: &Gemm, family: GemmFamily) -> Launch {
    let gemm = &gemm.as_patches();
    match family {
        GemmFamily::Register => gemm_register::launch(gemm),
        GemmFamily::Subgroup { lanes } => gemm_subgroup::launch(gemm, lanes as usize),
        GemmFamily::Tiled { largest } => match gemm_tiled::size(gemm, largest) {
            Some(size) => gemm_tiled::launch(gemm, size),
            None => gemm_register::launch(gemm),
        },
        GemmFamily::Cooperative { .. } if gemm_tiled::is_narrow(gemm) => gemm_register::launch(gemm),
        GemmFamily::Cooperative { side, lanes } => {
            gemm_cooperative::launch(gemm, side as usize, lanes as usize)
        }
    }
}

pub(super) fn launch(
    kernel: &'static Kernel,
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
    let spread = gemm.spread.unwrap_or(Spread {
        first: w.pad_begin.map(|pad| pad as i32),
        b_tap: [segments[1] * b_segment, b_segment],
        c_line: 0,
        c_image: 0,
        reached: true,
    });
    let pad =
        [0, 1].map(|axis| if back { spread.first[axis].wrapping_neg() } else { spread.first[axis] } as u32);
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
        b_segment: index(spread.b_tap[1]),
        epilogue: gemm.epilogue.number(),
        b_transposed: gemm.transpose_b.into(),
        height: index(from[0]),
        width: index(from[1]),
        out_height: index(to[0]),
        out_width: index(to[1]),
        kernel_h: if spread.reached { index(segments[0]) } else { 0 },
        kernel_w: index(segments[1]),
        stride_h: index(w.stride[0]),
        stride_w: index(w.stride[1]),
        dilation_h: signed(w.dilation[0]),
        dilation_w: signed(w.dilation[1]),
        pad_top: pad[0],
        pad_left: pad[1],
        slices: index(gemm.slices),
        slice_terms: index(slice_terms(gemm)),
        c_slice: index(gemm.m * gemm.c.stride),
        b_row: index(spread.b_tap[0]).wrapping_sub(index(segments[1] * spread.b_tap[1])),
        c_line: index(spread.c_line),
        c_image: index(spread.c_image),
        unused: 0,
        rule: 0,
    };
    let mut launch = Launch::new(kernel, &params, index(workgroup), grid)
        .flops(u64::from(spread.reached) * (2 * gemm.groups * gemm.m * gemm.n) as u64 * gemm.k as u64)
        .rounds(gemm.k / 4 + w.taps() + w.kernel[0] + 8);
    // A window at a time.
    let tile = Tile { store: if gemm.pooled { WINDOW_ROWS } else { tile.store }, ..tile };
    // Odd matrices are small: element by element, one shader does for all of them.
    let fours = |matrix: &Matrix| gemm.source != Source::Matrix && matrix.by_fours();
    let (store, extra) = if fours(&gemm.c) && gemm.n.is_multiple_of(4) {
        (&STORE_C_VEC4, &EXTRA_VEC4)
    } else {
        (&STORE_C_SCALAR, &EXTRA_SCALAR)
    };
    launch.snippets = vec![
        if fours(&gemm.a) { &FETCH_A_VEC4 } else { &FETCH_A_SCALAR },
        if fours(&gemm.b) { &FETCH_B_VEC4 } else { &FETCH_B_SCALAR },
        store,
        extra,
        &EPILOGUE,
        &RULE_NONE,
    ];
    launch.snippets.extend(if gemm.pooled { vec![&STORE_POOLED, &LARGEST] } else { vec![&STORE_ROWS] });
    launch.snippets.extend(match (gemm.source, gemm.transpose_a) {
        (Source::Matrix, true) => vec![&A_COLUMNS_MATRIX],
        (Source::Matrix, false) => vec![&A_ROWS_MATRIX],
        (_, true) if by_taps => vec![&A_COLUMNS_CURSOR, &A_COLUMNS_TAPS],
        (_, true) => vec![&A_COLUMNS_CURSOR, &A_COLUMNS_PATCHES],
        (_, false) if by_taps => vec![&A_ROWS_TAPS],
        (_, false) => vec![&A_ROWS_PATCHES],
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
        constant_bool("SPREAD", gemm.spread.is_some()),
        constant_bool("RELU_GRAD", gemm.epilogue == Epilogue::ReluGrad),
        // Told at run time by columns in a subgroup: it costs nothing, and saves a shader.
        constant_bool("SPLIT", gemm.slices > 1 || (gemm.transpose_a && kernel.name == "gemm_subgroup")),
    ]);
    launch
}
