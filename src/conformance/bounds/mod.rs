//! Error bounds of each element of each result, derived from the operands.

mod activation;
mod loss;
mod norm;
mod update;
mod winograd;

pub(super) use update::update_bounds;

use super::case::{Case, DataKind, Ops, OpsGraph, Work};
use super::compare::{HALF_ULP, MIN_NORMAL};
use crate::error::Result;
use crate::graph::{DType, Graph, Node, Op, Role, StepScalars, Value, ValueId};
use crate::reference::{Reference, normalized_sets};

/// The bound of each element of each result that a case compares, as an absolute error, for the first `rows`
/// rows of `data`; empty for an update.
///
/// # Errors
/// As [`Reference::run`].
pub fn bounds(case: &Case, data: &[Vec<f64>], rows: usize) -> Result<Vec<Vec<f64>>> {
    let Work::Ops(ops) = &case.work else { return Ok(Vec::new()) };
    let built = ops.build()?;
    let reference = built.evaluate(data, rows)?;
    let all = chain_bounds(ops, &built, &reference, rows)?;
    Ok(built.outputs().into_iter().map(|output| all[output.node][output.index].clone()).collect())
}

/// The bounds of all results of all operations of a chain.
pub(super) fn chain_bounds(
    ops: &Ops,
    built: &OpsGraph,
    reference: &Reference,
    rows: usize,
) -> Result<Vec<Vec<Vec<f64>>>> {
    let graph = &built.graph;
    // Bounds of each value of the graph; `None` for operands, which are exact.
    let mut bounds: Vec<Option<Vec<f64>>> = vec![None; graph.values().len()];
    for node in graph.nodes() {
        // Operations with divisions or exponentials round even if their operands are integers.
        let exact = ops.data == DataKind::Integers
            && !matches!(
                node.op,
                Op::SoftmaxCrossEntropy { .. }
                    | Op::SoftmaxCrossEntropyGrad { .. }
                    | Op::MeanSquaredError
                    | Op::MeanSquaredErrorGrad
                    | Op::MeanGrad
                    | Op::Metrics
            );
        let mut results = node_bounds(graph, node, reference, &bounds, rows)?;
        if let [first, second] = node.inputs.as_slice() {
            let operands = [first, second].map(|&id| reference.read(id));
            let bound = winograd::convolution(ops.winograd, &node.op, operands, rows);
            results = bound.map_or(results, |bound| vec![bound]);
        }
        for (id, bound) in node.outputs.iter().zip(results) {
            bounds[id.0] = Some(if exact { vec![0.0; bound.len()] } else { bound });
        }
    }
    let take = |ids: &Vec<ValueId>| ids.iter().map(|id| bounds[id.0].take().unwrap_or_default()).collect();
    Ok(built.results.iter().map(take).collect())
}

/// The bounds of one operation's results on real data; `bounds` contains those of all earlier values.
fn node_bounds(
    graph: &Graph,
    node: &Node,
    reference: &Reference,
    bounds: &[Option<Vec<f64>>],
    rows: usize,
) -> Result<Vec<Vec<f64>>> {
    let elements = |index: usize| graph.at(node.outputs[index]).shape.elements();
    let operand = |index: usize| reference.read(node.inputs[index]);
    let result = || reference.read(node.outputs[0]);
    // The targets of a loss whose logits are operand `first`.
    let targets = |first: usize, smoothing: f64| loss::Targets {
        labels: operand(first + 1),
        weights: node.inputs.get(first + 2).map(|&id| reference.read(id)),
        smoothing,
        classes: graph.at(node.inputs[first]).shape.last(),
        rows,
    };
    let operand_bound = |index: usize| {
        bounds[node.inputs[index].0].clone().unwrap_or_else(|| vec![0.0; operand(index).len()])
    };
    Ok(match &node.op {
        // A sum of K products in any order, with or without fused multiply-add: (4 + sqrt(K)) half-ulps of
        // the sum of the products' magnitudes.
        Op::Conv2d(_)
        | Op::Conv2dGradInput(_)
        | Op::Conv2dGradKernel(_)
        | Op::MatMul { .. }
        | Op::MaxPool2dGrad(_)
        | Op::GlobalAvgPool
        | Op::GlobalAvgPoolGrad(_) => {
            let factor = (4.0 + (terms(graph, node, rows) as f64).sqrt()) * HALF_ULP;
            vec![magnitudes(graph, node, reference, rows)?.into_iter().map(|m| factor * m).collect()]
        }
        // As a sum of products, plus the errors of the terms.
        Op::BiasGrad => {
            let factor = (4.0 + (terms(graph, node, rows) as f64).sqrt()) * HALF_ULP;
            let errors = on_operands(graph, node, &[operand_bound(0)], rows)?;
            let bound = magnitudes(graph, node, reference, rows)?.into_iter().zip(errors);
            vec![bound.map(|(m, error)| factor * m + error).collect()]
        }
        // The bound of a sum of products, plus the error of a division (2.5 ulps on Vulkan) of the sum or of
        // each term.
        Op::AvgPool2d(_) | Op::AvgPool2dGrad(_) => {
            let factor = (9.0 + (terms(graph, node, rows) as f64).sqrt()) * HALF_ULP;
            vec![magnitudes(graph, node, reference, rows)?.into_iter().map(|m| factor * m).collect()]
        }
        // The bound of a sum of products, plus the errors of two weights and of one more product.
        Op::Resample2d(_) => {
            let factor = (9.0 + (terms(graph, node, rows) as f64).sqrt()) * HALF_ULP;
            vec![magnitudes(graph, node, reference, rows)?.into_iter().map(|m| factor * m).collect()]
        }
        // The error of the operand, plus two half-ulps of the sum.
        Op::BiasAdd => {
            let sum = operand_bound(0).into_iter().zip(result());
            vec![sum.map(|(bound, y)| bound + 2.0 * HALF_ULP * y.abs()).collect()]
        }
        Op::Add => {
            let operands = operand_bound(0).into_iter().zip(operand_bound(1)).zip(result());
            vec![operands.map(|((a, b), y)| a + b + 2.0 * HALF_ULP * y.abs()).collect()]
        }
        // The error of each operand times the other operand, plus two half-ulps of the product.
        Op::Mul => {
            let factors = operand(0).iter().zip(operand(1));
            let errors = operand_bound(0).into_iter().zip(operand_bound(1)).zip(factors);
            let bound = |((da, db), (a, b)): ((f64, f64), (&f64, &f64))| {
                da * b.abs() + db * a.abs() + da * db + 2.0 * HALF_ULP * (a * b).abs() + MIN_NORMAL
            };
            vec![errors.map(bound).collect()]
        }
        // The magnitude of the product, plus the error of a times the factor; the factors are exact in every case.
        Op::MulChannels => {
            let errors = on_operands(graph, node, &[operand_bound(0), operand(1).to_vec()], rows)?;
            let bound = errors.iter().zip(result());
            vec![bound.map(|(e, y)| e.abs() + 2.0 * HALF_ULP * y.abs() + MIN_NORMAL).collect()]
        }
        // One rounding each of the factor and of the product, and one half-ulp of margin.
        Op::Scale(factor) => {
            let scaled = operand_bound(0).into_iter().zip(result());
            let bound =
                |(bound, y): (f64, &f64)| bound * factor.abs() + 3.0 * HALF_ULP * y.abs() + MIN_NORMAL;
            vec![scaled.map(bound).collect()]
        }
        // Errors of rounding the number of elements to f32, and of a division (2.5 ulps on Vulkan).
        Op::MeanGrad => vec![result().iter().map(|y| 7.0 * HALF_ULP * y.abs()).collect()],
        // Results are copies of elements, or 0; the operands are data without errors.
        Op::Concat | Op::SliceChannels { .. } | Op::PadChannels { .. } => vec![vec![0.0; elements(0)]],
        // Results are copies of elements, or 0.
        Op::Relu | Op::Reshape(_) => vec![operand_bound(0)],
        // Results are copies of elements of dy, or 0. The sign of y selects them, and it is exact in every
        // case.
        Op::ReluGrad => vec![operand_bound(1)],
        // One rounding each of the factor and of the product, and one half-ulp of margin; zeros are exact.
        Op::Dropout(d) => {
            let scaled = operand_bound(0).into_iter().zip(result());
            vec![scaled.map(|(bound, y)| bound * d.scale() + 3.0 * HALF_ULP * y.abs()).collect()]
        }
        // Results are copies of elements, with the largest bound in the window; positions are exact. In every
        // case, the elements of a window differ by so much that rounding does not change which is the
        // largest.
        Op::MaxPool2d(_) => {
            let largest = on_operands(graph, node, &[operand_bound(0)], rows)?;
            vec![largest, vec![0.0; elements(1)]]
        }
        Op::Activation(a) => vec![activation::activation(*a, operand(0))],
        Op::ActivationGrad(a) => vec![activation::activation_grad(*a, operand(0), operand(1))],
        Op::Softmax => {
            let classes = graph.at(node.inputs[0]).shape.last();
            vec![activation::softmax(classes, operand(0), result())]
        }
        Op::SoftmaxGrad => {
            let classes = graph.at(node.inputs[0]).shape.last();
            vec![activation::softmax_grad(classes, operand(0), operand(1))]
        }
        Op::LogSoftmax => {
            let classes = graph.at(node.inputs[0]).shape.last();
            vec![loss::log_softmax(operand(0), classes)]
        }
        Op::LogSoftmaxGrad => {
            let classes = graph.at(node.inputs[0]).shape.last();
            vec![activation::log_softmax_grad(classes, operand(0), operand(1))]
        }
        Op::SoftmaxCrossEntropy { smoothing } => {
            vec![loss::cross_entropy(operand(0), &targets(0, *smoothing), result())]
        }
        Op::SoftmaxCrossEntropyGrad { smoothing } => {
            vec![loss::cross_entropy_grad(operand(0), &targets(0, *smoothing), result())]
        }
        Op::MeanSquaredError => {
            vec![loss::squared_error(result(), graph.at(node.inputs[0]).elements_per_row())]
        }
        Op::ElementLoss(of) => {
            let per_row = graph.at(node.inputs[0]).elements_per_row();
            vec![loss::element_loss(*of, operand(0), operand(1), per_row)]
        }
        Op::ElementLossGrad(of) => {
            let elements = (rows * graph.at(node.inputs[0]).elements_per_row()) as f64;
            vec![loss::element_loss_grad(*of, operand(0), operand(1), elements)]
        }
        Op::SoftCrossEntropy => vec![loss::soft_cross_entropy(operand(0), operand(1), result().len())],
        Op::SoftCrossEntropyGrad => {
            let classes = graph.at(node.inputs[0]).shape.last();
            vec![loss::soft_cross_entropy_grad(operand(0), operand(1), result(), classes, rows)]
        }
        Op::MeanSquaredErrorGrad => vec![loss::squared_error_grad(result())],
        Op::Metrics => {
            let targets = (node.inputs.len() > 1).then(|| targets(1, 0.0));
            vec![vec![loss::mean(&operand(0)[..rows], targets.as_ref())]]
        }
        Op::BatchStatistics { .. }
        | Op::BatchNorm { .. }
        | Op::BatchNormGradScale { .. }
        | Op::BatchNormGradInput => {
            let used_rows = |index: usize| {
                let value = graph.at(node.inputs[index]);
                let used = if value.batched { rows * value.elements_per_row() } else { usize::MAX };
                &operand(index)[..used.min(operand(index).len())]
            };
            let operands: Vec<_> = (0..node.inputs.len()).map(used_rows).collect();
            let results: Vec<_> = node.outputs.iter().map(|&id| reference.read(id)).collect();
            let mut all = norm::batch_norm(&node.op, &operands, &results);
            let errors: Vec<_> = node.inputs.iter().map(|id| bounds[id.0].as_deref()).collect();
            norm::add_operand_errors(&node.op, &operands, &errors, &mut all[0]);
            for (index, bound) in all.iter_mut().enumerate() {
                bound.resize(elements(index), 0.0);
            }
            all
        }
        Op::Normalize(of) | Op::NormalizeGrad(of) => {
            let x = graph.at(node.inputs[0]);
            let used = rows * x.elements_per_row();
            let inv_std = *node.inputs.get(1).unwrap_or(node.outputs.last().unwrap_or(&node.inputs[0]));
            let sets = rows * graph.at(inv_std).elements_per_row();
            let sets = normalized_sets(of, x.shape.last(), used, sets);
            let mut all = match node.op {
                Op::Normalize(_) => norm::normalize_sets(&sets, operand(0), of.epsilon),
                _ => vec![norm::normalize_sets_grad(&sets, operand(0), operand(1), operand(2))],
            };
            all.iter_mut().enumerate().for_each(|(index, bound)| bound.resize(elements(index), 0.0));
            all
        }
        Op::Accumulate(_) | Op::Clip(..) | Op::Update(..) | Op::UpdateStatistics(..) => Vec::new(),
    })
}

/// The number of terms of the longest sum that one result requires.
fn terms(graph: &Graph, node: &Node, rows: usize) -> usize {
    let input = graph.at(node.inputs[0]);
    let used = |value: &Value| {
        if value.batched { rows * value.elements_per_row() } else { value.shape.elements() }
    };
    match &node.op {
        Op::Conv2d(c) => c.depth(),
        Op::Conv2dGradInput(c) => c.window.taps() * c.c_out_per_group(),
        Op::Conv2dGradKernel(c) => rows * c.window.outputs(),
        Op::MatMul { transpose_a: false, .. } => input.shape.last(),
        Op::MatMul { .. } | Op::BiasGrad => used(input) / input.shape.last(),
        Op::MaxPool2dGrad(p) => p.window.taps(),
        Op::GlobalAvgPool => input.elements_per_row() / input.shape.last(),
        Op::AvgPool2d(p) | Op::AvgPool2dGrad(p) => p.window.taps(),
        Op::Resample2d(r) => r.taps().iter().product(),
        _ => 1,
    }
}

/// The sum of the magnitudes of all products of each result, computed as the operation on the absolute values
/// of its operands.
fn magnitudes(graph: &Graph, node: &Node, reference: &Reference, rows: usize) -> Result<Vec<f64>> {
    let operands = node.inputs.iter().map(|&id| {
        let data = reference.read(id);
        match graph.at(id).dtype {
            DType::F32 => data.iter().map(|x| x.abs()).collect(),
            DType::U32 => data.to_vec(),
        }
    });
    on_operands(graph, node, &operands.collect::<Vec<_>>(), rows)
}

/// Evaluates the operation on other operands of the same shapes, and returns its first result.
fn on_operands(graph: &Graph, node: &Node, operands: &[Vec<f64>], rows: usize) -> Result<Vec<f64>> {
    let mut single = Graph::new(graph.batch())?;
    let mut inputs = Vec::new();
    for &id in &node.inputs {
        let value = graph.at(id);
        inputs.push(if value.batched {
            single.batch_input(&value.name, &value.shape.extents()[1..], value.dtype)?
        } else {
            single.input(&value.name, value.shape.clone(), value.dtype)
        });
    }
    let results = single.push(node.op.clone(), &inputs, &node.label)?;
    let mut reference = Reference::new(&single)?;
    for (&input, data) in inputs.iter().zip(operands) {
        debug_assert!(single.at(input).role == Role::Input);
        reference.write(input, data)?;
    }
    reference.run(StepScalars::forward(rows))?;
    Ok(reference.read(results[0]).to_vec())
}
