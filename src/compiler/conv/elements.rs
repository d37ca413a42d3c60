//! Partial weight gradient of single elements: one dot product per trainable element, divided into partial
//! sums over the batch.

use super::depthwise::pixel_splits;
use super::gather::{patch_element, scatter};
use super::operands::operands;
use crate::compiler::ir::Operation;
use crate::compiler::lower::Builder;
use crate::graph::Conv2d;
use crate::kernels::{KernelGradElements, kernel_grad_elements};

/// Approximate number of products that one invocation sums.
const TERMS: usize = 1024;

pub(super) fn grad_kernel(b: &mut Builder, op: &Operation, conv: &Conv2d, trainable: &[usize]) {
    let [x, dy] = operands(op);
    let batch = b.settings.batch;
    let element = |&index: &usize| {
        let column = index % conv.c_out;
        let [down, across, channel, _] = patch_element(conv, index / conv.c_out);
        let group = column / conv.c_out_per_group();
        [down, across, channel + (group * conv.c_in_per_group()) as u32, column as u32]
    };
    let elements = b.list(trainable.iter().flat_map(element).collect());
    let max_iterations = b.settings.max_iterations;
    // The splits are added by loops over their number.
    let splits = (batch * conv.window.outputs()).div_ceil(TERMS).clamp(1, batch).min(max_iterations);
    let (c_in, c_out) = (conv.c_in, conv.c_out);
    let mut kernel =
        KernelGradElements { window: conv.window, c_in, c_out, images: batch, splits: [splits, 1, 1] };
    if kernel.iterations() > max_iterations {
        let [rows, columns] = conv.window.output;
        let [all_rows, column_splits] = pixel_splits([batch * rows, columns]);
        let images = all_rows.min(batch);
        kernel.splits = [images, all_rows.div_ceil(images).min(rows), column_splits];
    }
    let splits = kernel.splits.iter().product();
    let sums = b.workspace(splits * trainable.len());
    b.push(op, kernel_grad_elements(&kernel, trainable.len()), vec![elements, x, dy, sums]);
    scatter(b, op, trainable.iter().map(|&index| index as u32).collect(), splits, sums);
}
