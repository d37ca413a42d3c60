//! The algorithms of a convolution and its gradients.

use std::fmt;

/// Algorithm of a convolution or of one of its gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// Direct kernel for depthwise convolutions (one filter per channel).
    Depthwise,
    /// Winograd's F(4x4, 3x3) or F(4x4, 5x5): transforms and a batched GEMM.
    Winograd,
    /// Implicit GEMM over images padded with a channel of zeros, so that patches are loaded as vec4.
    PaddedChannels,
    /// GEMM of the images without a column matrix, for 1x1 kernels of stride 1.
    Pointwise,
    /// Implicit GEMM: gathers patches while it loads tiles, without a column matrix in memory.
    ImplicitGemm,
    /// Input gradient of a strided convolution: one GEMM for each set of input pixels that use the same
    /// kernel positions.
    StridedGradInput,
    /// GEMM of a column matrix in memory (im2col, col2im), for parts of the batch.
    Im2col,
    /// Partial weight gradient: only the output channels that have trainable elements.
    Columns,
    /// Partial weight gradient: only the rows of the kernel matrix that have trainable elements.
    Rows,
    /// Partial weight gradient: each trainable element separately, as a dot product.
    Elements,
}

impl Algorithm {
    /// Whether it computes only a part of a weight gradient.
    pub(crate) fn is_partial(self) -> bool {
        matches!(self, Algorithm::Columns | Algorithm::Rows | Algorithm::Elements)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Algorithm::Depthwise => "depthwise",
            Algorithm::Winograd => "winograd",
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

/// An algorithm, with the indices that a partial algorithm computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub algorithm: Algorithm,
    /// Columns, rows or elements of the kernel matrix that a partial algorithm computes, ascending; empty for
    /// other algorithms.
    pub trainable: Vec<usize>,
}
