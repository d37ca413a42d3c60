//! Losses and metrics.

use super::pool::mean_of_pixels;
use super::{Builder, Resource};
use crate::compiler::ir::Operation;
use crate::error::Result;
use crate::graph::Op;
use crate::kernels::{
    Prediction, Target, mean_squared_error, mean_squared_error_grad, metrics, predicted_class,
    softmax_cross_entropy, softmax_cross_entropy_grad, sum_parts,
};

/// Lowers a loss, its gradient, or the metrics.
pub(super) fn loss(b: &mut Builder, op: &Operation) -> Result<()> {
    let node = &op.node;
    let graph = b.graph;
    let operands: Vec<Resource> = node.inputs.iter().map(|&id| Resource::Value(id)).collect();
    let result = Resource::Value(node.outputs[0]);
    // The kernel has a binding for every optional operand. If an operand is absent, its binding is not read,
    // so operand 0 is bound.
    let limit = b.settings.max_iterations;
    let operand = |index: usize| operands.get(index).copied().unwrap_or(operands[0]);
    match node.op {
        Op::SoftmaxCrossEntropy { smoothing } | Op::SoftmaxCrossEntropyGrad { smoothing } => {
            let [rows, classes] = graph.at(node.inputs[0]).shape.matrix(&node.label)?;
            let target = Target { rows, classes, smoothing, weighted: operands.len() == 3 };
            let launch = match node.op {
                Op::SoftmaxCrossEntropy { .. } => softmax_cross_entropy(target, limit),
                _ => softmax_cross_entropy_grad(target, limit),
            };
            b.push(op, launch, vec![operand(0), operand(1), operand(2), result]);
        }
        Op::MeanSquaredError => {
            let (rows, per_row) = (graph.batch(), graph.at(node.inputs[0]).elements_per_row());
            let factor = 1.0 / per_row as f64;
            let launch = mean_squared_error(rows, per_row, 1, factor);
            if launch.iterations <= limit {
                b.push(op, launch, vec![operand(0), operand(1), result]);
                return Ok(());
            }
            let splits = sum_parts(launch.iterations);
            let partial = b.workspace(rows * splits);
            let launch = mean_squared_error(rows, per_row, splits, 1.0);
            b.push(op, launch, vec![operand(0), operand(1), partial]);
            mean_of_pixels(b, op, [rows, splits, 1], factor, [partial, result]);
        }
        Op::MeanSquaredErrorGrad => {
            let (rows, per_row) = (graph.batch(), graph.at(node.inputs[0]).elements_per_row());
            b.push(op, mean_squared_error_grad(rows, per_row), vec![operand(0), operand(1), result]);
        }
        _ => {
            let rows = graph.batch();
            let classes = node.inputs.get(1).map_or(0, |&id| graph.at(id).shape.last());
            let weighted = operands.len() == 4;
            let mut launch = metrics(rows, classes, weighted, Prediction::Logits);
            let mut predictions = operand(1);
            if classes > 0 && launch.iterations > limit {
                predictions = b.workspace(rows);
                b.push(op, predicted_class(rows, classes), vec![operand(1), predictions]);
                launch = metrics(rows, classes, weighted, Prediction::Stored);
            }
            let resources =
                vec![operand(0), predictions, operand(2), operand(3), result, Resource::RunningSums];
            b.push(op, launch, resources);
        }
    }
    Ok(())
}
