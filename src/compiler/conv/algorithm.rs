//! The algorithms of a convolution and its gradients.

use std::fmt;

/// How a convolution or one of its gradients is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// A direct kernel for convolutions with one filter per channel.
    Depthwise,
    /// Winograd's F(4x4, 3x3) or F(4x4, 5x5): transforms and a batched GEMM.
    Winograd,
    /// An implicit GEMM over images with one more channel, of zeros, so that patches are loaded as vec4.
    PaddedChannels,
    /// A GEMM of the images themselves, for 1x1 kernels of stride 1.
    Pointwise,
    /// A GEMM that gathers patches where it loads them.
    ImplicitGemm,
    /// An input gradient through a stride: a GEMM for each set of input pixels that the same kernel elements reach.
    StridedGradInput,
    /// A GEMM of a column matrix in memory (im2col, col2im), in parts of the batch.
    Im2col,
    /// The weight gradient of some output channels.
    Columns,
    /// The weight gradient of some rows of the kernel matrix.
    Rows,
    /// The weight gradient of single elements.
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

/// An algorithm, and what a partial one computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub algorithm: Algorithm,
    /// The columns, rows or elements of the kernel matrix that a partial algorithm computes, ascending; empty otherwise.
    pub live: Vec<usize>,
}
