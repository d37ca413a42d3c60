//! Convolutions that are no matrix products, and what surrounds products: patches as columns, depthwise kernels, chosen elements.

mod col2im;
mod depthwise_conv2d;
mod depthwise_conv2d_grad_input;
mod depthwise_conv2d_grad_kernel;
mod gather_patches;
mod im2col;
mod pick;
pub(super) mod scatter_sum;
mod weight_dots;

pub(crate) use col2im::col2im;
pub(crate) use depthwise_conv2d::depthwise_conv2d;
pub(crate) use depthwise_conv2d_grad_input::depthwise_conv2d_grad_input;
pub(crate) use depthwise_conv2d_grad_kernel::depthwise_conv2d_grad_kernel;
pub(crate) use gather_patches::gather_patches;
pub(crate) use im2col::im2col;
pub(crate) use pick::pick;
pub(crate) use scatter_sum::{NO_INDEX, scatter_sum};
pub(crate) use weight_dots::{WeightDots, weight_dots};
