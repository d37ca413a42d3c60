//! Direct kernels for depthwise convolutions (one filter per channel). As a GEMM per channel, the result
//! would have a single column, so most invocations of a GEMM tile would be idle.

use super::operands::{operands, result};
use crate::compiler::ir::Operation;
use crate::compiler::lower::{Builder, Resource};
use crate::graph::Conv2d;
use crate::kernels::{
    Epilogue, Images, depthwise_conv2d, depthwise_conv2d_grad_input, depthwise_conv2d_grad_kernel, tap_parts,
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
    for taps in tap_parts(&conv.window, 1, b.settings.max_iterations) {
        let launch = depthwise_conv2d(&b.images(conv.window, conv.c_in), &taps, bias.is_some(), relu);
        b.push(op, launch, vec![x, kernel, bias.unwrap_or(kernel), Resource::Value(epilogue.output)]);
    }
}

pub(super) fn grad_input(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [dy, kernel] = operands(op);
    for taps in tap_parts(&conv.window, 1, b.settings.max_iterations) {
        let launch = depthwise_conv2d_grad_input(&b.images(conv.window, conv.c_in), &taps);
        b.push(op, launch, vec![dy, kernel, result(op)]);
    }
}

pub(super) fn grad_kernel(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [x, dy] = operands(op);
    let w = &conv.window;
    let lines = b.settings.batch * w.output[0];
    let row_splits = (lines * w.output[1] / MIN_PIXELS).clamp(1, MAX_SPLITS).min(lines);
    let images = Images { groups: row_splits, ..b.images(conv.window, conv.c_in) };
    let mut launch = depthwise_conv2d_grad_kernel(&images, 1);
    let mut splits = row_splits;
    if launch.iterations > b.settings.max_iterations {
        let [row_splits, column_splits] = pixel_splits([lines, w.output[1]]);
        launch = depthwise_conv2d_grad_kernel(&Images { groups: row_splits, ..images }, column_splits);
        splits = row_splits * column_splits;
    }
    if splits == 1 {
        b.push(op, launch, vec![x, dy, result(op)]);
        return;
    }
    let elements = w.taps() * conv.c_in;
    let partial = b.workspace(splits * elements);
    b.push(op, launch, vec![x, dy, partial]);
    b.push(op, b.sum_of_splits(splits, elements), vec![partial, result(op)]);
}

/// Returns the numbers of ranges into which the rows and the columns of a long sum over pixels are divided:
/// about as many splits as each has pixels, so that adding the splits needs few loop iterations too.
pub(super) fn pixel_splits([rows, columns]: [usize; 2]) -> [usize; 2] {
    // Nested loops over rows and columns have one iteration more per row.
    let iterations = (rows * (1 + columns)).isqrt().max(1);
    match iterations / (1 + columns) {
        0 => [rows, (1 + columns).div_ceil(iterations)],
        rows_per_split => [rows.div_ceil(rows_per_split), 1],
    }
}
