//! Partial weight gradient for the rows of the kernel matrix (kernel row, kernel column, input channel) that
//! have trainable elements.
//!
//! Gathers the patch elements that these rows are multiplied with, multiplies them with the output gradients,
//! and scatters the results into the kernel gradient.

use super::gather::{gather, patch_element, scatter};
use super::operands::operands;
use crate::compiler::ir::Operation;
use crate::compiler::lower::{Builder, GemmBuffers};
use crate::graph::Conv2d;
use crate::kernels::{Gemm, Images, Matrix, NO_INDEX};

pub(super) fn grad_kernel(b: &mut Builder, op: &Operation, conv: &Conv2d, trainable: &[usize]) {
    let [x, dy] = operands(op);
    let width = trainable.len().next_multiple_of(4);
    let mut elements: Vec<_> = trainable.iter().map(|&row| patch_element(conv, row)).collect();
    elements.resize(width, [0; 4]);
    let results = b.workspace(width * conv.c_out);
    let outputs = conv.window.outputs();
    for part in b.parts_of_batch(outputs * width, u64::MAX) {
        let images = Images { first: part.start, count: part.len(), ..b.images(conv.window, conv.c_in) };
        let gathered = gather(b, op, &images, &elements, x);
        let gemm = Gemm {
            a: Matrix::rows(width),
            b: Matrix { offset: part.start * outputs * conv.c_out, ..Matrix::rows(conv.c_out) },
            transpose_a: true,
            k_per_row: outputs,
            first_row: part.start,
            accumulate: part.start > 0,
            ..Gemm::plain(width, conv.c_out, part.len() * outputs)
        };
        b.gemm(op, &gemm, &GemmBuffers::plain(gathered, dy, results));
    }
    let index = |row: usize, column: usize| {
        trainable.get(row).map_or(NO_INDEX, |row| (row * conv.c_out + column) as u32)
    };
    let indices = (0..width * conv.c_out).map(|i| index(i / conv.c_out, i % conv.c_out)).collect();
    scatter(b, op, indices, 1, results);
}
