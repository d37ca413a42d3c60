//! Losses and metrics.

use super::pool::mean_of_pixels;
use super::{Builder, Resource};
use crate::compiler::ir::Operation;
use crate::error::Result;
use crate::graph::Op;
use crate::kernels::{
    Prediction, Target, label_weight_sum, mean_squared_error, mean_squared_error_grad, metrics,
    predicted_class, softmax_cross_entropy, softmax_cross_entropy_grad, sum_parts,
};

/// Lowers a loss with its gradient if that is fused, the gradient alone, or the metrics.
pub(super) fn loss(b: &mut Builder, op: &Operation) -> Result<()> {
    let node = &op.node;
    let graph = b.graph;
    let operands: Vec<Resource> = node.inputs.iter().map(|&id| Resource::Value(id)).collect();
    let result = Resource::Value(node.outputs[0]);
    // The kernel has a binding for every optional operand. If an operand is absent, its binding is not read,
    // so operand 0 is bound.
    let limit = row_limit(b);
    let operand = |index: usize| operands.get(index).copied().unwrap_or(operands[0]);
    match node.op {
        Op::SoftmaxCrossEntropy { smoothing } | Op::SoftmaxCrossEntropyGrad { smoothing } => {
            let [rows, classes] = graph.at(node.inputs[0]).shape.matrix(&node.label)?;
            let target = Target { rows, classes, smoothing, weighted: operands.len() == 3 };
            let loss = matches!(node.op, Op::SoftmaxCrossEntropy { .. }).then_some(result);
            let gradient = if loss.is_some() { op.loss_grad.map(Resource::Value) } else { Some(result) };
            let mut resources = vec![operand(0), operand(1), operand(2)];
            resources.extend(loss);
            if let Some(gradient) = gradient {
                resources.push(if target.weighted { weight_sum(b, op, rows) } else { operand(0) });
                resources.push(gradient);
            }
            let launch = match loss {
                Some(_) => softmax_cross_entropy(target, gradient.is_some(), limit),
                None => softmax_cross_entropy_grad(target, limit),
            };
            b.push(op, launch, resources);
        }
        Op::MeanSquaredError => {
            let sizes = [graph.batch(), graph.at(node.inputs[0]).elements_per_row()];
            let factor = 1.0 / sizes[1] as f64;
            let gradient = op.loss_grad.map(Resource::Value);
            let resources = |sums| [operand(0), operand(1), sums].into_iter().chain(gradient).collect();
            let launch = mean_squared_error(sizes, 1, factor, gradient.is_some());
            if launch.iterations <= limit {
                b.push(op, launch, resources(result));
                return Ok(());
            }
            let splits = sum_parts(launch.iterations);
            let partial = b.workspace(sizes[0] * splits);
            b.push(op, mean_squared_error(sizes, splits, 1.0, gradient.is_some()), resources(partial));
            mean_of_pixels(b, op, [sizes[0], splits, 1], factor, [partial, result]);
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

/// Returns the loop iterations above which a workgroup computes a row instead of an invocation. On a GPU that is
/// faster from some dozens of classes on: the few rows of a batch occupy few invocations.
fn row_limit(b: &Builder) -> usize {
    const ITERATIONS_ON_GPU: usize = 128;
    let limit = b.settings.max_iterations;
    if b.settings.parallel_reductions { limit.min(ITERATIONS_ON_GPU) } else { limit }
}

/// Adds the dispatch that sums the weights of the labels, and returns its result.
fn weight_sum(b: &mut Builder, op: &Operation, rows: usize) -> Resource {
    let sum = b.workspace(1);
    let [labels, class_weights] = [1, 2].map(|operand| Resource::Value(op.node.inputs[operand]));
    b.push(op, label_weight_sum(rows), vec![labels, class_weights, sum]);
    sum
}
