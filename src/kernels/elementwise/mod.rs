//! Elementwise kernels, and sums over rows.

pub(super) mod activation;
mod bias_grad;
mod channels;
mod dropout;
mod mul_channels;

pub(crate) use activation::{Curve, activation, activation_grad};
pub(crate) use bias_grad::{bias_grad, bias_grad_parallel};
pub(crate) use channels::{concat, pad_channels, slice_channels};
pub(crate) use dropout::dropout;
pub(crate) use mul_channels::mul_channels;

use super::{Extent, Launch, WgslFile, files, grid_of, to_u32};
use crate::wgsl::params;

/// Invocations per workgroup of elementwise kernels.
pub(super) const ELEMENTWISE_WORKGROUP: u32 = 256;

params! {
    pub(super) struct ElementwiseParams {
        elements: u32,
        per_example: u32,
        channels: u32,
        /// Bits of the scalar operand, for kernels with one.
        scalar_bits: u32,
        /// Bits of a second scalar operand.
        scalar2_bits: u32,
    }
}

/// y = a + b. Buffers: a, b, y.
pub fn add(extent: Extent) -> Launch {
    elementwise(&files::ADD, extent, 1)
}

/// y = a * b, element by element. Buffers: a, b, y.
pub fn mul(extent: Extent) -> Launch {
    elementwise(&files::MUL, extent, 1)
}

/// y = factor * x. Buffers: x, y.
pub fn scale(extent: Extent, factor: f64) -> Launch {
    elementwise_with_scalars(&files::SCALE, extent, [factor as f32, 0.0])
}

/// y = x + bias along the last axis. Buffers: x, bias, y.
pub fn bias_add(extent: Extent, channels: usize) -> Launch {
    elementwise(&files::BIAS_ADD, extent, channels)
}

/// y = x where x > 0, else 0. Buffers: x, y.
pub fn relu(extent: Extent) -> Launch {
    elementwise(&files::RELU, extent, 1)
}

/// Gradient of ReLU: dx = dy where the ReLU output is above 0, else 0. Buffers: ReLU output, dy, dx.
pub fn relu_grad(extent: Extent) -> Launch {
    elementwise(&files::RELU_GRAD, extent, 1)
}

/// Gradient of the mean over all valid elements: sets each of them to 1 / (number of valid elements).
/// Buffers: result.
pub fn mean_grad(extent: Extent) -> Launch {
    elementwise(&files::MEAN_GRAD, extent, 1)
}

/// y = 0. Buffers: y.
pub fn zero(extent: Extent) -> Launch {
    elementwise(&files::ZERO, extent, 1).flops(0)
}

fn elementwise(kernel: &'static WgslFile, extent: Extent, channels: usize) -> Launch {
    launch(kernel, extent, channels, [0.0; 2])
}

fn elementwise_with_scalars(kernel: &'static WgslFile, extent: Extent, scalars: [f32; 2]) -> Launch {
    launch(kernel, extent, 1, scalars)
}

fn launch(kernel: &'static WgslFile, extent: Extent, channels: usize, scalars: [f32; 2]) -> Launch {
    let params = ElementwiseParams {
        elements: to_u32(extent.elements),
        per_example: to_u32(extent.per_row),
        channels: to_u32(channels),
        scalar_bits: scalars[0].to_bits(),
        scalar2_bits: scalars[1].to_bits(),
    };
    let groups = grid_of(extent.elements.div_ceil(4), ELEMENTWISE_WORKGROUP);
    Launch::new(kernel, &params, ELEMENTWISE_WORKGROUP, groups).flops(extent.elements as u64)
}
