//! Winograd convolutions F(2x2, 3x3) in one kernel, for the forward pass and the input gradient of 3x3 kernels
//! of stride 1.
//!
//! They need 4/9 of the multiplications of a direct convolution. Transformed images stay in workgroup memory, so
//! the only additional memory traffic is that of the transformed kernels.

use super::operands::operands;
use super::winograd::backward_window;
use crate::compiler::ir::{FusedEpilogue, Operation};
use crate::compiler::lower::{Builder, Resource};
use crate::compiler::options::Settings;
use crate::graph::Conv2d;
use crate::kernels::{FUSED_POINTS, Tiles, winograd_fused, winograd_fused_kernel};
use crate::shape::WindowGeometry;

/// Whether the fused kernel supports the forward pass and the input gradient of this convolution on the adapter.
pub(super) fn is_applicable(conv: &Conv2d, settings: &Settings) -> bool {
    let w = &conv.window;
    let kernels = (4 * FUSED_POINTS as u64).saturating_mul(conv.c_in.saturating_mul(conv.c_out) as u64);
    settings.winograd_fused
        && w.kernel == [3, 3]
        && w.stride == [1, 1]
        && w.dilation == [1, 1]
        && conv.groups == 1
        && w.pad_begin.iter().all(|&pad| pad < w.kernel[0])
        && conv.c_in.is_multiple_of(4)
        && conv.c_out.is_multiple_of(4)
        && kernels <= settings.max_binding
}

pub(super) fn forward(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    convolve(b, op, conv, conv.window, [conv.c_in, conv.c_out], false);
}

pub(super) fn grad_input(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    convolve(b, op, conv, backward_window(&conv.window), [conv.c_out, conv.c_in], true);
}

/// Convolves images of `from` channels into images of `to` channels, with flipped kernels if `backward`.
fn convolve(
    b: &mut Builder,
    op: &Operation,
    conv: &Conv2d,
    window: WindowGeometry,
    [from, to]: [usize; 2],
    backward: bool,
) {
    let [images, kernel] = operands(op);
    let FusedEpilogue { kind, operand, output, positions } = op.epilogue();
    let kernels = b.workspace(FUSED_POINTS * from * to);
    b.push(op, winograd_fused_kernel(conv.c_in, conv.c_out, backward), vec![kernel, kernels]);
    let tiles = Tiles { window, first: 0, images: b.settings.batch };
    let mut resources =
        vec![images, kernels, operand.map_or(kernels, Resource::Value), Resource::Value(output)];
    resources.extend(positions.map(Resource::Value));
    b.push(op, winograd_fused(&tiles, [from, to], kind, positions.is_some()), resources);
}
