//! Direct kernels for depthwise convolutions (one filter per channel). As a GEMM per channel, the result
//! would have a single column, so most invocations of a GEMM tile would be idle.

use super::operands::{operands, result};
use crate::compiler::ir::Operation;
use crate::compiler::lower::{Builder, Resource};
use crate::graph::Conv2d;
use crate::kernels::{
    Epilogue, Images, depthwise_conv2d, depthwise_conv2d_grad_input, depthwise_conv2d_grad_kernel,
};

/// Minimum number of output pixels in each partial sum of the kernel gradient.
const MIN_PIXELS: usize = 256;
/// Maximum number of partial sums of the kernel gradient.
const MAX_SPLITS: usize = 256;

pub(super) fn forward(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [x, kernel] = operands(op);
    let epilogue = op.epilogue();
    let bias = epilogue.operand.map(Resource::Value);
    let relu = epilogue.kind == Epilogue::Bias { relu: true };
    let launch = depthwise_conv2d(&b.images(conv.window, conv.c_in), bias.is_some(), relu);
    b.push(op, launch, vec![x, kernel, bias.unwrap_or(kernel), Resource::Value(epilogue.output)]);
}

pub(super) fn grad_input(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [dy, kernel] = operands(op);
    let launch = depthwise_conv2d_grad_input(&b.images(conv.window, conv.c_in));
    b.push(op, launch, vec![dy, kernel, result(op)]);
}

pub(super) fn grad_kernel(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [x, dy] = operands(op);
    let w = &conv.window;
    let lines = b.settings.batch * w.output[0];
    let splits = (lines * w.output[1] / MIN_PIXELS).clamp(1, MAX_SPLITS).min(lines);
    let images = Images { groups: splits, ..b.images(conv.window, conv.c_in) };
    let launch = depthwise_conv2d_grad_kernel(&images);
    if splits == 1 {
        b.push(op, launch, vec![x, dy, result(op)]);
        return;
    }
    let elements = w.taps() * conv.c_in;
    let partial = b.workspace(splits * elements);
    b.push(op, launch, vec![x, dy, partial]);
    b.push(op, b.sum_of_splits(splits, elements), vec![partial, result(op)]);
}
