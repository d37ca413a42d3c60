//! Convolution kernels other than GEMM: depthwise convolution, im2col and col2im, gather and scatter for
//! partly frozen weights.

mod col2im;
mod depthwise_conv2d;
mod depthwise_conv2d_grad_input;
mod depthwise_conv2d_grad_kernel;
mod gather;
mod gather_patches;
mod im2col;
mod kernel_grad_elements;
mod scatter_splits;

pub(crate) use col2im::col2im;
pub(crate) use depthwise_conv2d::depthwise_conv2d;
pub(crate) use depthwise_conv2d_grad_input::depthwise_conv2d_grad_input;
pub(crate) use depthwise_conv2d_grad_kernel::depthwise_conv2d_grad_kernel;
pub(crate) use gather::gather;
pub(crate) use gather_patches::gather_patches;
pub(crate) use im2col::im2col;
pub(crate) use kernel_grad_elements::{KernelGradElements, kernel_grad_elements};
pub(crate) use scatter_splits::scatter_splits;

/// Index of an element that has no source (in a gather) or no destination (in a scatter).
pub const NO_INDEX: u32 = u32::MAX;
