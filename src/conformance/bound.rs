//! How far each element of a result may be from the reference, and the comparison.

use super::bound_loss;
use super::case::{Built, Case, DataKind, Ops, Work};
use crate::error::Result;
use crate::graph::{DType, Graph, Node, Op, Role, StepScalars};
use crate::reference::Reference;

/// Half a unit in the last place of an f32 of size 1.
pub(super) const HALF_ULP: f64 = 1.0 / (1 << 24) as f64;

/// Smaller results may be flushed to 0.
const TINY: f64 = f32::MIN_POSITIVE as f64;

/// The largest error as a fraction of its element's bound (0 where equal); `Err` says where it is worst if that is over 1.
/// NaN is right where NaN is wanted, and wrong anywhere else.
///
/// # Errors
/// What is wrong, in words.
pub fn compare(what: &str, got: &[f64], want: &[f64], bound: &[f64]) -> std::result::Result<f64, String> {
    if got.len() != want.len() || got.len() != bound.len() {
        return Err(format!("{what}: {} elements, expected {}", got.len(), want.len()));
    }
    let fraction = |i: usize| {
        let (g, w) = (got[i], want[i]);
        if g == w || (g.is_nan() && w.is_nan()) {
            return 0.0;
        }
        let error = (g - w).abs();
        // Against an infinity or a NaN nothing but equality will do.
        if error.is_finite() && bound[i].is_finite() && bound[i] > 0.0 {
            error / bound[i]
        } else {
            f64::INFINITY
        }
    };
    let mut worst = (0.0, 0);
    let mut wrong = 0usize;
    for i in 0..got.len() {
        let f = fraction(i);
        wrong += usize::from(f > 1.0);
        if f > worst.0 {
            worst = (f, i);
        }
    }
    if wrong == 0 {
        return Ok(worst.0);
    }
    let (fraction, at) = worst;
    Err(format!(
        "{what}: {wrong} of {} elements are wrong; worst at {at}: got {:e}, expected {:e}, {fraction:.3} times the bound {:.1e}",
        got.len(),
        got[at],
        want[at],
        bound[at]
    ))
}

/// The bound of each element of each result that the case compares, for `rows` rows of these operands: absolute errors.
///
/// # Errors
/// As [`Reference::run`].
pub fn bounds(case: &Case, data: &[Vec<f64>], rows: usize) -> Result<Vec<Vec<f64>>> {
    let Work::Ops(ops) = &case.work else { return Ok(Vec::new()) };
    let built = ops.build()?;
    let reference = evaluate(&built, data, rows)?;
    let all = of_all(ops, &built, &reference, rows)?;
    Ok(built.outputs().into_iter().map(|(node, index, _)| all[node][index].clone()).collect())
}

/// The reference after a run on these operands.
pub(super) fn evaluate(built: &Built, data: &[Vec<f64>], rows: usize) -> Result<Reference> {
    let mut reference = Reference::new(&built.graph)?;
    for (&input, data) in built.inputs.iter().zip(data) {
        reference.write(input, data)?;
    }
    reference.run(StepScalars::forward(rows))?;
    Ok(reference)
}

/// The bounds of all results of all operations.
fn of_all(ops: &Ops, built: &Built, reference: &Reference, rows: usize) -> Result<Vec<Vec<Vec<f64>>>> {
    let graph = &built.graph;
    // The bound of each value so far; operands have none.
    let mut known: Vec<Option<Vec<f64>>> = vec![None; graph.values().len()];
    for node in graph.nodes() {
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
        let mut made = of_node(graph, node, reference, &known, rows)?;
        if let (true, [first, second]) = (ops.winograd, node.inputs.as_slice()) {
            let operands = [first, second].map(|&id| reference.read(id));
            made = super::bound_winograd::of_node(&node.op, operands, rows).map_or(made, |bound| vec![bound]);
        }
        for (id, bound) in node.outputs.iter().zip(made) {
            known[id.0] = Some(if exact { vec![0.0; bound.len()] } else { bound });
        }
    }
    let take = |ids: &Vec<crate::graph::ValueId>| {
        ids.iter().map(|id| known[id.0].take().unwrap_or_default()).collect()
    };
    Ok(built.results.iter().map(take).collect())
}

/// The bounds of one operation's results, for real-valued data.
fn of_node(
    graph: &Graph,
    node: &Node,
    reference: &Reference,
    known: &[Option<Vec<f64>>],
    rows: usize,
) -> Result<Vec<Vec<f64>>> {
    let elements = |index: usize| graph.at(node.outputs[index]).shape.elements();
    let operand = |index: usize| reference.read(node.inputs[index]);
    let result = || reference.read(node.outputs[0]);
    // The logits are operand `first`.
    let targets = |first: usize, smoothing: f64| bound_loss::Targets {
        labels: operand(first + 1),
        weights: node.inputs.get(first + 2).map(|&id| reference.read(id)),
        smoothing,
        classes: graph.at(node.inputs[first]).shape.last(),
        rows,
    };
    let before = |index: usize| known[node.inputs[index].0].clone();
    let inherited = |index: usize| before(index).unwrap_or_else(|| vec![0.0; operand(index).len()]);
    Ok(match &node.op {
        // A sum of K products in any order, fused or not: (4 + sqrt(K)) half-ulps of the sum of their sizes.
        Op::Conv2d(_)
        | Op::Conv2dGradInput(_)
        | Op::Conv2dGradKernel(_)
        | Op::MatMul { .. }
        | Op::BiasGrad
        | Op::MaxPool2dGrad(_)
        | Op::GlobalAvgPool
        | Op::GlobalAvgPoolGrad(_) => {
            let factor = (4.0 + (terms(graph, node, rows) as f64).sqrt()) * HALF_ULP;
            vec![magnitudes(graph, node, reference, rows)?.into_iter().map(|m| factor * m).collect()]
        }
        // The same, and a division (2.5 ulps on Vulkan) of the sum or of each term.
        Op::AvgPool2d(_) | Op::AvgPool2dGrad(_) => {
            let factor = (9.0 + (terms(graph, node, rows) as f64).sqrt()) * HALF_ULP;
            vec![magnitudes(graph, node, reference, rows)?.into_iter().map(|m| factor * m).collect()]
        }
        // One rounding of the sum, with a bit to spare, after what the product brings along.
        Op::BiasAdd => {
            let sum = inherited(0).into_iter().zip(result());
            vec![sum.map(|(bound, y)| bound + 2.0 * HALF_ULP * y.abs()).collect()]
        }
        Op::Add => {
            let before = inherited(0).into_iter().zip(inherited(1)).zip(result());
            vec![before.map(|((a, b), y)| a + b + 2.0 * HALF_ULP * y.abs()).collect()]
        }
        // What each operand brings along, times the other, and the rounding of the product.
        Op::Mul => {
            let factors = operand(0).iter().zip(operand(1));
            let bounds = inherited(0).into_iter().zip(inherited(1)).zip(factors);
            let one = |((da, db), (a, b)): ((f64, f64), (&f64, &f64))| {
                da * b.abs() + db * a.abs() + da * db + 2.0 * HALF_ULP * (a * b).abs() + TINY
            };
            vec![bounds.map(one).collect()]
        }
        // The factor's rounding and the product's, with a bit to spare.
        Op::Scale(factor) => {
            let scaled = inherited(0).into_iter().zip(result());
            let one = |(bound, y): (f64, &f64)| bound * factor.abs() + 3.0 * HALF_ULP * y.abs() + TINY;
            vec![scaled.map(one).collect()]
        }
        // The number of elements, and a division (2.5 ulps on Vulkan).
        Op::MeanGrad => vec![result().iter().map(|y| 7.0 * HALF_ULP * y.abs()).collect()],
        // Passes on or leaves out, and rounds nothing.
        Op::Relu | Op::Reshape(_) => vec![inherited(0)],
        // Copies of elements, or nothing; the sign that decides is exact wherever a case has it.
        Op::ReluGrad => vec![inherited(1)],
        // The factor's rounding and the product's, with a bit to spare; zeros are exact.
        Op::Dropout(d) => {
            let scaled = inherited(0).into_iter().zip(result());
            vec![scaled.map(|(bound, y)| bound * d.scale() + 3.0 * HALF_ULP * y.abs()).collect()]
        }
        // Copies of elements, with the largest bound in the window. No case has two elements there so near that either may be chosen.
        Op::MaxPool2d(_) => {
            let largest = on_operands(graph, node, &[inherited(0)], rows)?;
            vec![largest, vec![0.0; elements(1)]]
        }
        Op::Activation(a) => vec![super::bound_activation::activation(*a, operand(0))],
        Op::ActivationGrad(a) => vec![super::bound_activation::activation_grad(*a, operand(0), operand(1))],
        Op::Softmax => {
            let classes = graph.at(node.inputs[0]).shape.last();
            vec![super::bound_activation::softmax(classes, operand(0), result())]
        }
        Op::SoftmaxGrad => {
            let classes = graph.at(node.inputs[0]).shape.last();
            vec![super::bound_activation::softmax_grad(classes, operand(0), operand(1))]
        }
        Op::SoftmaxCrossEntropy { smoothing } => {
            vec![bound_loss::loss(operand(0), &targets(0, *smoothing), result())]
        }
        Op::SoftmaxCrossEntropyGrad { smoothing } => {
            vec![bound_loss::gradient(operand(0), &targets(0, *smoothing), result())]
        }
        Op::MeanSquaredError => {
            vec![bound_loss::squared_error(result(), graph.at(node.inputs[0]).elements_per_row())]
        }
        Op::MeanSquaredErrorGrad => vec![bound_loss::squared_error_gradient(result())],
        Op::Metrics => {
            let targets = (node.inputs.len() > 1).then(|| targets(1, 0.0));
            vec![vec![bound_loss::mean(&operand(0)[..rows], targets.as_ref())]]
        }
        Op::BatchStatistics { .. }
        | Op::BatchNorm { .. }
        | Op::BatchNormGradScale
        | Op::BatchNormGradInput => {
            let live = |index: usize| {
                let per_row = graph.at(node.inputs[index]);
                let used = if per_row.batched { rows * per_row.elements_per_row() } else { usize::MAX };
                &operand(index)[..used.min(operand(index).len())]
            };
            let operands: Vec<_> = (0..node.inputs.len()).map(live).collect();
            let mut all = super::bound_norm::of_node(&node.op, &operands, &node_results(node, reference));
            for (index, bound) in all.iter_mut().enumerate() {
                bound.resize(elements(index), 0.0);
            }
            all
        }
        Op::Accumulate(_) | Op::Clip(..) | Op::Update(..) | Op::UpdateStatistics(..) => Vec::new(),
    })
}

fn node_results<'a>(node: &Node, reference: &'a Reference) -> Vec<&'a [f64]> {
    node.outputs.iter().map(|&id| reference.read(id)).collect()
}

/// Terms of the longest sum.
fn terms(graph: &Graph, node: &Node, rows: usize) -> usize {
    let input = graph.at(node.inputs[0]);
    let live = |value: &crate::graph::Value| {
        if value.batched { rows * value.elements_per_row() } else { value.shape.elements() }
    };
    match &node.op {
        Op::Conv2d(c) => c.depth(),
        Op::Conv2dGradInput(c) => c.window.taps() * c.c_out_per_group(),
        Op::Conv2dGradKernel(c) => rows * c.window.outputs(),
        Op::MatMul { transpose_a: false, .. } => input.shape.last(),
        Op::MatMul { .. } | Op::BiasGrad => live(input) / input.shape.last(),
        Op::MaxPool2dGrad(p) => p.window.taps(),
        Op::GlobalAvgPool => input.elements_per_row() / input.shape.last(),
        Op::AvgPool2d(p) | Op::AvgPool2dGrad(p) => p.window.taps(),
        _ => 1,
    }
}

/// The operation on the sizes of its operands: the sum of the sizes of all products of each element.
fn magnitudes(graph: &Graph, node: &Node, reference: &Reference, rows: usize) -> Result<Vec<f64>> {
    let sizes = node.inputs.iter().map(|&id| {
        let data = reference.read(id);
        let of_floats = graph.at(id).dtype == DType::F32;
        data.iter().map(|x| if of_floats { x.abs() } else { *x }).collect()
    });
    on_operands(graph, node, &sizes.collect::<Vec<_>>(), rows)
}

/// The first result of the operation on other operands.
fn on_operands(graph: &Graph, node: &Node, operands: &[Vec<f64>], rows: usize) -> Result<Vec<f64>> {
    let mut alone = Graph::new(graph.batch())?;
    let mut inputs = Vec::new();
    for &id in &node.inputs {
        let value = graph.at(id);
        inputs.push(if value.batched {
            alone.batch_input(&value.name, &value.shape.extents()[1..], value.dtype)?
        } else {
            alone.input(&value.name, value.shape.clone(), value.dtype)
        });
    }
    let results = alone.push(node.op.clone(), &inputs, &node.label)?;
    let mut reference = Reference::new(&alone)?;
    for (&input, data) in inputs.iter().zip(operands) {
        debug_assert!(alone.at(input).role == Role::Input);
        reference.write(input, data)?;
    }
    reference.run(StepScalars::forward(rows))?;
    Ok(reference.read(results[0]).to_vec())
}
