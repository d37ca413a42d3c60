//! Losses and metrics.

use super::{Builder, Resource};
use crate::compiler::ir::Operation;
use crate::error::Result;
use crate::graph::Op;
use crate::kernels::{
    Target, mean_squared_error, mean_squared_error_grad, metrics, softmax_cross_entropy,
    softmax_cross_entropy_grad,
};

/// Lowers a loss, its gradient, or the metrics.
pub(super) fn loss(b: &mut Builder, op: &Operation) -> Result<()> {
    let node = &op.node;
    let graph = b.graph;
    let operands: Vec<Resource> = node.inputs.iter().map(|&id| Resource::Value(id)).collect();
    let result = Resource::Value(node.outputs[0]);
    // The kernel has a binding for every optional operand. If an operand is absent, its binding is not read,
    // so operand 0 is bound.
    let operand = |index: usize| operands.get(index).copied().unwrap_or(operands[0]);
    match node.op {
        Op::SoftmaxCrossEntropy { smoothing } | Op::SoftmaxCrossEntropyGrad { smoothing } => {
            let [rows, classes] = graph.at(node.inputs[0]).shape.matrix(&node.label)?;
            let target = Target { rows, classes, smoothing, weighted: operands.len() == 3 };
            let launch = match node.op {
                Op::SoftmaxCrossEntropy { .. } => softmax_cross_entropy(target),
                _ => softmax_cross_entropy_grad(target),
            };
            b.push(op, launch, vec![operand(0), operand(1), operand(2), result]);
        }
        Op::MeanSquaredError | Op::MeanSquaredErrorGrad => {
            let (rows, per_row) = (graph.batch(), graph.at(node.inputs[0]).elements_per_row());
            let launch = match node.op {
                Op::MeanSquaredError => mean_squared_error(rows, per_row),
                _ => mean_squared_error_grad(rows, per_row),
            };
            b.push(op, launch, vec![operand(0), operand(1), result]);
        }
        _ => {
            let logits = node.inputs.get(1).map(|&id| graph.at(id).shape.last());
            let launch = metrics(graph.batch(), logits.unwrap_or(0), operands.len() == 4);
            let read = (0..4).map(operand);
            let resources = read.chain([result, Resource::RunningSums]).collect();
            b.push(op, launch, resources);
        }
    }
    Ok(())
}
