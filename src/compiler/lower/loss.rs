//! Losses and metrics.

use super::pool::mean_of_pixels;
use super::{Builder, Resource};
use crate::compiler::ir::Operation;
use crate::error::Result;
use crate::graph::{ElementLoss, Op};
use crate::kernels::{
    Criterion, Prediction, Target, element_loss, element_loss_grad, label_weight_sum, metrics,
    predicted_class, soft_cross_entropy, soft_cross_entropy_grad, softmax_cross_entropy,
    softmax_cross_entropy_grad, sum_parts,
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
        Op::MeanSquaredError | Op::ElementLoss(_) => {
            let criterion = criterion(&node.op);
            let sizes = [graph.batch(), graph.at(node.inputs[0]).elements_per_row()];
            let factor = 1.0 / sizes[1] as f64;
            let gradient = op.loss_grad.map(Resource::Value);
            let resources = |sums| [operand(0), operand(1), sums].into_iter().chain(gradient).collect();
            let launch = element_loss(criterion, sizes, 1, factor, gradient.is_some());
            if launch.iterations <= limit {
                b.push(op, launch, resources(result));
                return Ok(());
            }
            let splits = sum_parts(launch.iterations);
            let partial = b.workspace(sizes[0] * splits);
            let launch = element_loss(criterion, sizes, splits, 1.0, gradient.is_some());
            b.push(op, launch, resources(partial));
            mean_of_pixels(b, op, [sizes[0], splits, 1], factor, [partial, result]);
        }
        Op::MeanSquaredErrorGrad | Op::ElementLossGrad(_) => {
            let sizes = [graph.batch(), graph.at(node.inputs[0]).elements_per_row()];
            let launch = element_loss_grad(criterion(&node.op), sizes);
            b.push(op, launch, vec![operand(0), operand(1), result]);
        }
        Op::SoftCrossEntropy => {
            let [rows, classes] = graph.at(node.inputs[0]).shape.matrix(&node.label)?;
            let gradient = op.loss_grad.map(Resource::Value);
            let launch = soft_cross_entropy(rows, classes, gradient.is_some(), limit);
            b.push(op, launch, [operand(0), operand(1), result].into_iter().chain(gradient).collect());
        }
        Op::SoftCrossEntropyGrad => {
            let [rows, classes] = graph.at(node.inputs[0]).shape.matrix(&node.label)?;
            let launch = soft_cross_entropy_grad(rows, classes, limit);
            b.push(op, launch, vec![operand(0), operand(1), result]);
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

/// Returns the loss of an element of an operation that averages losses of elements, or of its gradient.
fn criterion(op: &Op) -> Criterion {
    match *op {
        Op::ElementLoss(of) | Op::ElementLossGrad(of) => match of {
            ElementLoss::Huber { threshold, slope } => Criterion::Huber { threshold, slope },
            ElementLoss::BinaryCrossEntropy { positive_weight } => {
                Criterion::BinaryCrossEntropy { positive_weight }
            }
        },
        _ => Criterion::Squared,
    }
}
