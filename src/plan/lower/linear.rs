//! Matrix products and the gradient of a bias.

use super::{Lowering, Place};
use crate::error::Result;
use crate::graph::{Node, Value};
use crate::kernels::{Gemm, Matrix, bias_grad};
use crate::plan::fuse::Ending;

impl Lowering<'_> {
    pub(super) fn matmul(
        &mut self,
        node: &Node,
        transposed: [bool; 2],
        ending: Option<Ending>,
    ) -> Result<()> {
        let ending = ending.unwrap_or(Ending::plain(node.outputs[0]));
        let product = Gemm { epilogue: ending.epilogue, ..self.matmul_product(node, transposed)? };
        let operands = [0, 1].map(|i| Place::Value(node.inputs[i]));
        self.ending_product(node, &product, operands, ending);
        Ok(())
    }

    pub(super) fn matmul_product(&self, node: &Node, transposed: [bool; 2]) -> Result<Gemm> {
        let [transpose_a, transpose_b] = transposed;
        let (a, b) = (self.value(node.inputs[0]), self.value(node.inputs[1]));
        let [a_rows, a_columns] = a.shape.matrix(&node.label)?;
        let [b_rows, b_columns] = b.shape.matrix(&node.label)?;
        let (m, k) = if transpose_a { (a_columns, a_rows) } else { (a_rows, a_columns) };
        let n = if transpose_b { b_rows } else { b_columns };
        Ok(Gemm {
            a: Matrix::rows(a_columns),
            b: Matrix::rows(b_columns),
            transpose_a,
            transpose_b,
            m_per_row: usize::from(a.batched && !transpose_a),
            k_per_row: usize::from(a.batched && transpose_a),
            ..Gemm::plain(m, n, k)
        })
    }

    pub(super) fn bias_grad(&mut self, node: &Node, dy: &Value) {
        let channels = dy.shape.last();
        let rows = dy.shape.elements() / channels;
        let rows_per_row = if dy.batched { dy.elements_per_row() / channels } else { 0 };
        let (source, result) = (Place::Value(node.inputs[0]), Place::Value(node.outputs[0]));
        // Enough splits to fill a GPU, each with enough rows to be worth an invocation.
        let splits = (rows / 64).clamp(1, 256);
        if splits == 1 {
            self.push(node, bias_grad(rows, rows_per_row, channels, 1), vec![source, result]);
            return;
        }
        let partial = self.workspace(splits * channels);
        self.push(node, bias_grad(rows, rows_per_row, channels, splits), vec![source, partial]);
        self.push(node, bias_grad(splits, 0, channels, 1), vec![partial, result]);
    }
}
