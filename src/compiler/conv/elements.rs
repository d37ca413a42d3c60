//! Partial weight gradient of single elements: one dot product per trainable element, divided into partial
//! sums over the batch.

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
    let splits = (batch * conv.window.outputs()).div_ceil(TERMS).clamp(1, batch);
    let element = |&index: &usize| {
        let column = index % conv.c_out;
        let [down, across, channel, _] = patch_element(conv, index / conv.c_out);
        let group = column / conv.c_out_per_group();
        [down, across, channel + (group * conv.c_in_per_group()) as u32, column as u32]
    };
    let elements = b.list(trainable.iter().flat_map(element).collect());
    let sums = b.workspace(splits * trainable.len());
    let kernel =
        KernelGradElements { window: conv.window, c_in: conv.c_in, c_out: conv.c_out, images: batch, splits };
    b.push(op, kernel_grad_elements(&kernel, trainable.len()), vec![elements, x, dy, sums]);
    scatter(b, op, trainable.iter().map(|&index| index as u32).collect(), splits, sums);
}
