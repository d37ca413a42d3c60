//! Kernels that work element by element, and sums over rows.

pub(super) mod activation;
mod activation_grad;
mod add;
mod bias_add;
mod bias_grad;
mod dropout;
mod mean_grad;
mod mul;
mod relu;
mod relu_grad;
mod scale;

pub(crate) use activation::{Curve, activation};
pub(crate) use activation_grad::activation_grad;
pub(crate) use add::add;
pub(crate) use bias_add::bias_add;
pub(crate) use bias_grad::bias_grad;
pub(crate) use dropout::dropout;
pub(crate) use mean_grad::mean_grad;
pub(crate) use mul::mul;
pub(crate) use relu::relu;
pub(crate) use relu_grad::relu_grad;
pub(crate) use scale::scale;

use super::{Extent, Launch, WgslFile, grid_of, index};
use crate::wgsl::params;

/// Invocations in the workgroup of elementwise kernels.
pub(super) const ELEMENTWISE_WORKGROUP: u32 = 256;

params! {
    pub(super) struct ElementwiseParams {
        elements: u32,
        per_row: u32,
        channels: u32,
        /// The bits of a float, for kernels with one.
        option: u32,
    }
}

fn elementwise(kernel: &'static WgslFile, extent: Extent, channels: usize) -> Launch {
    elementwise_with(kernel, extent, channels, 0.0)
}

fn elementwise_with(kernel: &'static WgslFile, extent: Extent, channels: usize, option: f32) -> Launch {
    let params = ElementwiseParams {
        elements: index(extent.elements),
        per_row: index(extent.per_row),
        channels: index(channels),
        option: option.to_bits(),
    };
    let groups = grid_of(extent.elements.div_ceil(4), ELEMENTWISE_WORKGROUP);
    Launch::new(kernel, &params, ELEMENTWISE_WORKGROUP, groups).flops(extent.elements as u64)
}
