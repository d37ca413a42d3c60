//! What a product of matrices is: where they lie, what their rows are, and how it ends.

use crate::shape::WindowGeometry;

/// Terms in one loop over k, four at a time: a multiple of 8 with which it stays well below [`super::MAX_ITERATIONS`].
pub const MAX_TERMS: usize = 131_072;

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

    pub(super) fn is_vec4(&self) -> bool {
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
    pub(in crate::kernels) fn number(self) -> u32 {
        match self {
            Epilogue::None => 0,
            Epilogue::Bias { relu } => 1 + u32::from(relu),
            Epilogue::ReluGrad => 3,
        }
    }
}

/// Of a gradient that goes back through a stride: the pixels that the same taps reach are rows of one product. They lie apart
/// in C, and their taps in B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelSet {
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

/// One of a product's two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The left one.
    A,
    /// The right one.
    B,
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
    pub specialized: bool,
    /// Also stores the sums of B's columns, `[splits, groups * n]`: a bias's gradient beside its kernel's. B is not cut, A is
    /// transposed, and the family is [`GemmFamily::Subgroup`]; in others it is ignored.
    pub bias_grad: bool,
    /// Stores, of each 2x2 window of results, the largest, and to another buffer its number in the window: C and that have a row
    /// for each. Of patches by rows, where `n` and the rows of C come in fours and `output` is even; not in splits.
    pub pooled: bool,
    /// Where rows of C and taps of B lie, if not one after the other; of [`Source::Gradients`].
    pub pixel_set: Option<PixelSet>,
    /// The operand that holds gradients, which are small: f16 would lose them unless they are scaled.
    pub gradient: Option<Operand>,
    /// How many parts of the sum are computed side by side, each into a C of its own behind the one before; with more than
    /// one, nothing is added to C, and there is no epilogue. See [`super::splits`].
    pub splits: usize,
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
            specialized: false,
            bias_grad: false,
            pooled: false,
            pixel_set: None,
            gradient: None,
            splits: 1,
        }
    }

    /// Channels of a patch's tap; all terms of a matrix.
    pub(super) fn channels(&self) -> usize {
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
    pub(super) fn as_patches(&self) -> Gemm {
        let whole = self.k_first == 0
            && [self.n, if self.transpose_a { self.m } else { self.k }].iter().all(|x| x.is_multiple_of(4));
        let fours = self.a.is_vec4() && self.b.is_vec4() && self.c.is_vec4();
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
            let length = MAX_TERMS.min(self.k - first);
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
        (0..self.k).step_by(MAX_TERMS).map(part).collect()
    }

    /// Terms of each split but the last.
    pub(super) fn split_terms(&self) -> usize {
        self.terms_of(self.splits)
    }

    /// Terms of each split if the sum were cut into so many.
    pub(super) fn terms_of(&self, splits: usize) -> usize {
        self.k.div_ceil(splits).next_multiple_of(STEP).max(STEP)
    }
}

/// Terms of a split that are worth a result of its own.
pub(super) const SPLIT_TERMS: usize = 128;

/// Splits begin at multiples of this: a step of every family.
pub(super) const STEP: usize = 16;

/// The window of a plain matrix.
pub(super) const ONE: WindowGeometry = WindowGeometry {
    kernel: [1, 1],
    stride: [1, 1],
    dilation: [1, 1],
    pad_begin: [0, 0],
    input: [1, 1],
    output: [1, 1],
};
