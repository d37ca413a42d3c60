//! Matrix multiplications and bias gradients.

use super::{Builder, Resource};
use crate::compiler::conv::{self, Algorithm};
use crate::compiler::ir::Operation;
use crate::error::Result;
use crate::graph::Node;
use crate::kernels::{Gemm, Matrix, RowTiles, bias_grad, bias_grad_parallel, sum_parts};

/// Lowers a matrix multiplication, or the partial gradient of a dense kernel.
pub(super) fn matmul(b: &mut Builder, op: &Operation, transposed: [bool; 2]) -> Result<()> {
    if op.choice.is_some() {
        return conv::partial_grad_kernel(b, op);
    }
    let [transpose_a, transpose_b] = transposed;
    let node = &op.node;
    let [left, right] = [0, 1].map(|i| b.graph.at(node.inputs[i]));
    let [a_rows, a_columns] = left.shape.matrix(&node.label)?;
    let [b_rows, b_columns] = right.shape.matrix(&node.label)?;
    let (m, k) = if transpose_a { (a_columns, a_rows) } else { (a_rows, a_columns) };
    let n = if transpose_b { b_rows } else { b_columns };
    let gemm = Gemm {
        a: Matrix::rows(a_columns),
        b: Matrix::rows(b_columns),
        transpose_a,
        transpose_b,
        m_per_row: usize::from(left.batched && !transpose_a),
        k_per_row: usize::from(left.batched && transpose_a),
        ..Gemm::plain(m, n, k)
    };
    let [left, right] = [0, 1].map(|i| Resource::Value(node.inputs[i]));
    b.gemm_with_epilogue(op, &gemm, left, right);
    Ok(())
}

/// Lowers a bias gradient `[channels]`, the sum of `[rows, channels]` over the rows. If there are many rows,
/// a first dispatch computes partial sums and a second one adds them.
pub(super) fn bias_grad_of(b: &mut Builder, node: &Node) {
    let dy = b.graph.at(node.inputs[0]);
    let channels = dy.shape.last();
    let rows = dy.shape.elements() / channels;
    let rows_per_row = if dy.batched { dy.elements_per_row() / channels } else { 0 };
    let (source, result) = (Resource::Value(node.inputs[0]), Resource::Value(node.outputs[0]));
    let (splits, launch) = if b.settings.parallel_reductions {
        let tiles = RowTiles::new(rows, rows_per_row, channels);
        (tiles.splits(), bias_grad_parallel(&tiles))
    } else {
        let splits = row_splits(rows, 1, b.settings.max_iterations);
        (splits, bias_grad(rows, rows_per_row, channels, splits))
    };
    let none: Option<Algorithm> = None;
    if splits == 1 {
        b.push_of(node, none, launch, vec![source, result]);
        return;
    }
    let partial = b.workspace(splits * channels);
    b.push_of(node, none, launch, vec![source, partial]);
    b.push_of(node, none, b.sum_of_splits(splits, channels), vec![partial, result]);
}

/// Returns the number of partial sums into which a serial sum over rows is divided: at most 256, with at
/// least 64 rows each. There are more if `loops` iterations for each row of a partial sum
/// would exceed `max_iterations`.
pub(in crate::compiler) fn row_splits(rows: usize, loops: usize, max_iterations: usize) -> usize {
    let splits = (rows / 64).clamp(1, 256);
    if loops * rows.div_ceil(splits) <= max_iterations { splits } else { sum_parts(loops * rows).min(rows) }
}
