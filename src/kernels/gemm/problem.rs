//! Description of a GEMM: operands and their layout, implicit-GEMM source, epilogue, and division along k.

use crate::shape::WindowGeometry;

/// Maximum k of one dispatch, whose loop advances by 4: a multiple of 8 that keeps the number of iterations
/// well below [`super::MAX_ITERATIONS`].
pub const MAX_TERMS: usize = 131_072;

/// Layout of a matrix in its buffer, in elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    /// Distance between consecutive stored rows.
    pub stride: usize,
    /// Distance between the matrices of consecutive groups.
    pub group: usize,
    /// Offset of the first group's matrix.
    pub offset: usize,
}

impl Matrix {
    /// A matrix of one group with rows `stride` elements apart, at offset 0.
    pub fn rows(stride: usize) -> Self {
        Matrix { stride, group: 0, offset: 0 }
    }

    /// Whether every row begins at a multiple of 4 elements, so that it can be loaded as vec4.
    pub(super) fn is_vec4(&self) -> bool {
        [self.stride, self.group, self.offset].iter().all(|x| x.is_multiple_of(4))
    }
}

/// Source of the rows of A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A matrix in memory.
    Matrix,
    /// Image patches, gathered during the multiplication (implicit GEMM): row r is the patch under output
    /// pixel r, and k runs over taps and then channels. The stride of A is the distance between consecutive
    /// pixels.
    Patches(WindowGeometry),
    /// Output gradients, gathered for an input gradient at stride 1: row r contains the output pixels that
    /// input pixel r contributes to, and k runs over taps and then output channels (a multiple of 4).
    Gradients(WindowGeometry),
}

/// Operation on each result before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// None.
    None,
    /// Adds the bias of the column (the bias has the columns of all groups in order), then optionally applies
    /// ReLU.
    Bias {
        /// Whether to apply ReLU.
        relu: bool,
    },
    /// Gradient of a ReLU: 0 where its output at the same index is not above 0.
    ReluGrad,
}

impl Epilogue {
    /// Value of `epilogue` in shaders.
    pub(in crate::kernels) fn number(self) -> u32 {
        match self {
            Epilogue::None => 0,
            Epilogue::Bias { relu } => 1 + u32::from(relu),
            Epilogue::ReluGrad => 3,
        }
    }
}

/// Set of input pixels whose gradients receive contributions from the same kernel taps, in the input gradient
/// of a strided convolution. The set is computed by one GEMM: its pixels are the rows, strided in C, and
/// their taps are strided in B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelSet {
    /// Row and column in the images of A that the first tap of the first pixel reads.
    pub first: [i32; 2],
    /// Distance in B between consecutive taps, along the kernel's rows and columns.
    pub b_tap: [usize; 2],
    /// Distance in C between consecutive rows of pixels.
    pub c_line: usize,
    /// Distance in C between consecutive images.
    pub c_image: usize,
    /// Whether any tap contributes to these pixels; if not, their gradients are 0.
    pub reached: bool,
}

/// Operand of a GEMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The left operand.
    A,
    /// The right operand.
    B,
}

/// `C = op(A) * op(B)`, once for each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// Length of the reduction axis.
    pub k: usize,
    /// A, stored as `[m, k]`, or `[k, m]` if transposed.
    pub a: Matrix,
    /// B, stored as `[k, n]`, or `[n, k]` if transposed.
    pub b: Matrix,
    /// C, stored as `[m, n]`.
    pub c: Matrix,
    /// Source of the rows of A.
    pub source: Source,
    /// Whether A is stored transposed; for patches, whether op(A) is the transposed patch matrix.
    pub transpose_a: bool,
    /// Whether B is stored transposed.
    pub transpose_b: bool,
    /// Number of groups.
    pub groups: usize,
    /// Rows of C per example; 0 if m does not depend on the batch.
    pub m_per_row: usize,
    /// Length of k per example; 0 if k does not depend on the batch.
    pub k_per_row: usize,
    /// First example that m or k covers, as an index into the batch.
    pub first_row: usize,
    /// First k of this part of the sum (see [`Gemm::parts`]). Already included in the offset of `b`, and in
    /// that of `a` if it is a matrix.
    pub k_first: usize,
    /// Whether to add to the values in C instead of overwriting them.
    pub accumulate: bool,
    /// Operation on each result before it is stored.
    pub epilogue: Epilogue,
    /// Whether to prefer a shader for exactly this shape over a shared one. Set for GEMMs whose shaders are
    /// compiled after a mask changes, when compilation does not delay the first step.
    pub specialized: bool,
    /// Whether to also store the column sums of B, `[splits, groups * n]`: the bias gradient, fused into the
    /// weight gradient. Requires a transposed A, a k that is not divided into [`Gemm::parts`], and
    /// [`GemmFamily::Subgroup`](super::GemmFamily::Subgroup); other families ignore it.
    pub bias_grad: bool,
    /// Whether to fuse a 2x2 max pooling: C contains the largest result of each window, one row per window,
    /// and another buffer its position in the window. Requires patches that are not transposed, `n` and rows
    /// of C that are multiples of 4, an even `output`, and a single split.
    pub pooled: bool,
    /// Strides of the rows of C and of the taps of B for a pixel set; requires [`Source::Gradients`].
    pub pixel_set: Option<PixelSet>,
    /// Operand that contains gradients. Gradients are small, so a multiplication in f16 must scale them.
    pub gradient: Option<Operand>,
    /// Whether A and B are stored in f16, as [`super::round_to_f16`] writes them with the scales of
    /// [`super::stored_f16_scales`].
    pub stored_f16: bool,
    /// Number of splits of k (split-K): partial sums computed in parallel, each stored in its own C,
    /// consecutively in memory. With more than 1, `accumulate` and an epilogue are not allowed. See
    /// [`super::splits`].
    pub splits: usize,
}

impl Gemm {
    /// `C [m, n] = A [m, k] * B [k, n]`, all contiguous.
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
            stored_f16: false,
            splits: 1,
        }
    }

    /// Channels per tap of a patch; for a matrix, the length of a row.
    pub(super) fn channels(&self) -> usize {
        let row = if self.transpose_a { self.m } else { self.k };
        match self.source {
            Source::Matrix => row,
            Source::Patches(window) | Source::Gradients(window) => row / window.taps(),
        }
    }

    /// Whether patches are gathered with scalar loads, because the number of channels is not a multiple of 4.
    pub(super) fn gathers_scalars(&self) -> bool {
        self.source != Source::Matrix && !self.channels().is_multiple_of(4)
    }

    /// Segments of k that the loader of a row-major A advances over: taps, if patches are loaded as vec4.
    pub(super) fn segments(&self) -> usize {
        match self.source {
            _ if self.transpose_a => 0,
            Source::Patches(window) | Source::Gradients(window) if !self.gathers_scalars() => window.taps(),
            _ => 1,
        }
    }

    /// Rewrites a GEMM of matrices whose rows are multiples of 4 as a convolution with a 1x1 kernel, so that
    /// both share a pipeline. Returns any other GEMM unchanged.
    pub(super) fn as_pointwise_convolution(&self) -> Gemm {
        let whole_rows = self.k_first == 0
            && [self.n, if self.transpose_a { self.m } else { self.k }].iter().all(|x| x.is_multiple_of(4));
        let vec4 = whole_rows && self.a.is_vec4() && self.b.is_vec4() && self.c.is_vec4();
        let source = match (self.source, self.transpose_a, self.transpose_b) {
            (Source::Matrix, _, false) if vec4 => Source::Patches(ONE),
            (Source::Matrix, false, true) if vec4 => Source::Gradients(ONE),
            (source, ..) => source,
        };
        Gemm { source, ..*self }
    }

    /// Divides the GEMM along k into parts that are short enough for one loop. They run one after the other,
    /// each adding to C.
    pub fn parts(&self) -> Vec<Gemm> {
        let part = |first: usize| {
            let length = MAX_TERMS.min(self.k - first);
            let from = |matrix: Matrix, k_is_contiguous: bool| Matrix {
                offset: matrix.offset + first * if k_is_contiguous { 1 } else { matrix.stride },
                ..matrix
            };
            Gemm {
                k: length,
                k_first: first,
                // The shader locates patches from k_first; only a matrix needs another offset.
                a: if self.source == Source::Matrix { from(self.a, !self.transpose_a) } else { self.a },
                b: from(self.b, self.transpose_b),
                accumulate: self.accumulate || first > 0,
                epilogue: if first + length == self.k { self.epilogue } else { Epilogue::None },
                ..*self
            }
        };
        (0..self.k).step_by(MAX_TERMS).map(part).collect()
    }

    /// Returns the GEMM that computes the partial sums of a split-K GEMM: contiguous, and without the epilogue, which
    /// follows their sum.
    pub fn of_partial_sums(&self) -> Gemm {
        let row = self.n * self.groups;
        let [_, lines, width] = self.c_pixels();
        let pixel_set =
            self.pixel_set.map(|set| PixelSet { c_line: width * row, c_image: lines * width * row, ..set });
        let c = Matrix { stride: row, group: self.n, offset: 0 };
        Gemm { epilogue: Epilogue::None, c, pixel_set, ..*self }
    }

    /// Images, and lines and columns of an image, of which the rows of C are the pixels.
    pub(super) fn c_pixels(&self) -> [usize; 3] {
        let [lines, width] = match self.source {
            Source::Matrix => [1, 1],
            Source::Patches(window) => window.output,
            Source::Gradients(window) => window.input,
        };
        [self.m / (lines * width).max(1), lines, width]
    }

    /// Multiplications and additions that tiles with `results` results per group perform, if they multiply over
    /// steps of `k_step`; 0 if no tap contributes to the results.
    pub(super) fn tile_flops(&self, results: usize, k_step: usize) -> u64 {
        if self.pixel_set.is_some_and(|set| !set.reached) {
            return 0;
        }
        let per_split = self.k_per_split();
        let k: usize = (0..self.splits)
            .map(|split| self.k.saturating_sub(split * per_split).min(per_split).next_multiple_of(k_step))
            .sum();
        (2 * self.groups * results) as u64 * k as u64
    }

    /// Length of k of every split except the last, which may be shorter.
    pub(super) fn k_per_split(&self) -> usize {
        self.k_divided_by(self.splits)
    }

    /// Whether the k of every split ends after a whole number of steps, for any number of valid examples.
    pub(super) fn has_whole_steps(&self, step: usize) -> bool {
        let splits = if self.splits > 1 { self.k_per_split() } else { 0 };
        [self.k, self.k_first, self.k_per_row, splits].iter().all(|length| length.is_multiple_of(step))
    }

    /// Length of k of every split except the last, for a given number of splits: a multiple of
    /// [`SPLIT_STEP`].
    pub(super) fn k_divided_by(&self, splits: usize) -> usize {
        self.k.div_ceil(splits).next_multiple_of(SPLIT_STEP).max(SPLIT_STEP)
    }
}

/// Minimum length of k of a split: with shorter splits, the reduction takes longer than the parallelism
/// saves.
pub(super) const MIN_K_PER_SPLIT: usize = 128;

/// Splits begin at multiples of this, which is a multiple of the k step of every family.
pub(super) const SPLIT_STEP: usize = 16;

/// Geometry of a plain matrix: a 1x1 window over one pixel.
pub(super) const ONE: WindowGeometry = WindowGeometry {
    kernel: [1, 1],
    stride: [1, 1],
    dilation: [1, 1],
    pad_begin: [0, 0],
    input: [1, 1],
    output: [1, 1],
};
