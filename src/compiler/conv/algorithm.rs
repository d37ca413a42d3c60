//! The algorithms of a convolution and its gradients.

use std::fmt;

/// Algorithm of a convolution or of one of its gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// Direct kernel for depthwise convolutions (one filter per channel).
    Depthwise,
    /// Winograd convolution F(4x4, 3x3) or F(4x4, 5x5), which computes 4x4 output tiles of 3x3 or 5x5
    /// kernels: transforms and a batched GEMM.
    Winograd,
    /// Winograd convolution F(2x2, 3x3) in one kernel, with its transforms in workgroup memory.
    WinogradFused,
    /// Implicit GEMM over images with one additional channel of zeros, which makes the number of channels a
    /// multiple of 4, so that patches are loaded as vec4.
    PaddedChannels,
    /// GEMM that reads the images `[n * h * w, c]` as a matrix, without a column matrix, for 1x1 kernels of
    /// stride 1.
    Pointwise,
    /// Implicit GEMM: gathers patches while it loads tiles, without a column matrix in memory.
    ImplicitGemm,
    /// Input gradient of a strided convolution: one GEMM for each set of input pixels that use the same
    /// kernel positions.
    StridedGradInput,
    /// GEMM of a column matrix in memory (im2col, col2im). The batch is divided so that the matrix stays
    /// small.
    Im2col,
    /// Partial weight gradient: only the output channels that have trainable elements.
    Columns,
    /// Partial weight gradient: only the rows of the kernel matrix that have trainable elements.
    Rows,
    /// Partial weight gradient: each trainable element separately, as a dot product.
    Elements,
}

impl Algorithm {
    /// Whether the algorithm computes only a part of a weight gradient.
    pub(crate) fn is_partial(self) -> bool {
        matches!(self, Algorithm::Columns | Algorithm::Rows | Algorithm::Elements)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Algorithm::Depthwise => "depthwise",
            Algorithm::Winograd => "winograd",
            Algorithm::WinogradFused => "winograd fused",
            Algorithm::PaddedChannels => "padded channels",
            Algorithm::Pointwise => "pointwise",
            Algorithm::ImplicitGemm => "implicit gemm",
            Algorithm::StridedGradInput => "strided",
            Algorithm::Im2col => "im2col",
            Algorithm::Columns => "columns",
            Algorithm::Rows => "rows",
            Algorithm::Elements => "elements",
        })
    }
}

/// An algorithm, with the indices of the columns, rows or elements if it is a partial weight gradient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub algorithm: Algorithm,
    /// Indices of the columns, rows or elements of the kernel matrix `[kernel_h * kernel_w * c_in / groups,
    /// c_out]` that a partial weight gradient computes, ascending; empty for other algorithms.
    pub trainable: Vec<usize>,
}
