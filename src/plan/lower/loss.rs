//! Losses and their mean.

use super::{Lowering, Place};
use crate::error::Result;
use crate::graph::{Node, Op};
use crate::kernels::{
    Target, mean_squared_error, mean_squared_error_grad, metrics, softmax_cross_entropy,
    softmax_cross_entropy_grad,
};

impl Lowering<'_> {
    pub(super) fn loss(&mut self, node: &Node) -> Result<()> {
        let operands: Vec<Place> = node.inputs.iter().map(|&id| Place::Value(id)).collect();
        let result = Place::Value(node.outputs[0]);
        // Bound in the place of an operand that there is not, and not read there.
        let operand = |index: usize| operands.get(index).copied().unwrap_or(operands[0]);
        match node.op {
            Op::SoftmaxCrossEntropy { smoothing } | Op::SoftmaxCrossEntropyGrad { smoothing } => {
                let [rows, classes] = self.value(node.inputs[0]).shape.matrix(&node.label)?;
                let target = Target { rows, classes, smoothing, weighted: operands.len() == 3 };
                let launch = match node.op {
                    Op::SoftmaxCrossEntropy { .. } => softmax_cross_entropy(target),
                    _ => softmax_cross_entropy_grad(target),
                };
                self.push(node, launch, vec![operand(0), operand(1), operand(2), result]);
            }
            Op::MeanSquaredError | Op::MeanSquaredErrorGrad => {
                let (rows, per_row) = (self.graph.batch(), self.value(node.inputs[0]).elements_per_row());
                let launch = match node.op {
                    Op::MeanSquaredError => mean_squared_error(rows, per_row),
                    _ => mean_squared_error_grad(rows, per_row),
                };
                self.push(node, launch, vec![operand(0), operand(1), result]);
            }
            _ => {
                let logits = node.inputs.get(1).map(|&id| self.value(id).shape.last());
                let launch = metrics(self.graph.batch(), logits.unwrap_or(0), operands.len() == 4);
                let read = (0..4).map(operand);
                let places = read.chain([result, Place::Sums]).collect();
                self.push(node, launch, places);
            }
        }
        Ok(())
    }
}
