//! Tests of `Graph::backward`: the gradients of every operation are compared with central differences,
//! gradients of values with several uses are summed, operations are appended in a fixed order, and invalid
//! calls are rejected.

use crate::support::executor::Operand;
use crate::support::gradients::{Data, assert_gradients, draw};
use crate::support::random::{convolution_shapes, elements, normal, spread, stream};
use frazil::low_level::{
    Activation, Conv2d, DType, Dropout, ElementLoss, Graph, Normalization, Op, Pool2d, Resample2d,
    Resampling, ResamplingRule, UpdateRule, ValueId,
};
use frazil::low_level::{Padding, Shape, Window};
use frazil::model::Model;
use frazil::{Error, Loss, conformance};
use std::collections::BTreeSet;

/// Finite-difference step and relative tolerance for operations that are piecewise linear in each element.
/// Central differences have no truncation error here, so a large step, a power of two, has the least rounding
/// error.
const LINEAR: (f64, f64) = (1.0 / 64.0, 1e-11);
/// Finite-difference step and relative tolerance for nonlinear operations.
const SMOOTH: (f64, f64) = (1.0 / 16384.0, 1e-7);

/// An operation with its operands, the indices of the operands whose gradients are checked, and the
/// finite-difference step and tolerance.
struct Case {
    op: Op,
    operands: Vec<Operand>,
    checked: Vec<usize>,
    precision: (f64, f64),
}

const BATCH: usize = 3;

/// Returns an operand of shape `[BATCH, ..extents]` with standard normal elements.
fn batch(extents: &[usize], seed: u64) -> Operand {
    let shape: Vec<_> = [BATCH].iter().chain(extents).copied().collect();
    Operand::batch(&shape, normal(&mut stream(seed), elements(&shape)))
}

/// Returns an operand without a batch axis, with standard normal elements.
fn fixed(shape: &[usize], seed: u64) -> Operand {
    Operand::fixed(shape, normal(&mut stream(seed), elements(shape)))
}

/// Returns an operand of shape `[BATCH, ..extents]` whose elements are at least 0.1 apart and at least 0.05
/// away from 0, so that no finite-difference step changes the sign of an element or the position of a
/// maximum.
fn separated(extents: &[usize], seed: u64) -> Operand {
    let shape: Vec<_> = [BATCH].iter().chain(extents).copied().collect();
    Operand::batch(&shape, spread(&mut stream(seed), elements(&shape), 0.1))
}

fn linear(op: Op, operands: Vec<Operand>, checked: &[usize]) -> Case {
    Case { op, operands, checked: checked.to_vec(), precision: LINEAR }
}

fn smooth(op: Op, operands: Vec<Operand>, checked: &[usize]) -> Case {
    Case { op, operands, checked: checked.to_vec(), precision: SMOOTH }
}

fn convolutions(all: &mut Vec<Case>) {
    let same = Window { padding: Padding::Same, ..Window::new([3, 3]) };
    for (input, c_out, groups, window) in [
        ([4, 5, 2], 3, 1, same),
        ([5, 4, 2], 3, 1, Window { stride: [2, 1], ..Window::new([2, 3]) }),
        ([6, 5, 4], 6, 2, Window { dilation: [2, 1], ..same }),
        ([4, 4, 3], 3, 3, Window { stride: [2, 2], ..same }),
    ] {
        let c = Conv2d::new(input, c_out, window, groups, "conv").unwrap();
        let [x, kernel, dy] = convolution_shapes(&c, BATCH);
        let [x, dy] = [batch(&x[1..], 1), batch(&dy[1..], 2)];
        let kernel = fixed(&kernel, 3);
        all.push(linear(Op::Conv2d(c), vec![x.clone(), kernel.clone()], &[0, 1]));
        all.push(linear(Op::Conv2dGradInput(c), vec![dy.clone(), kernel], &[0, 1]));
        all.push(linear(Op::Conv2dGradKernel(c), vec![x, dy], &[0, 1]));
    }
}

fn matmuls(all: &mut Vec<Case>) {
    // Tests every valid combination of `[transpose_a, transpose_b]` and `[a is batched, b is batched]`. The
    // batch axis is m if only a is batched, and k if both operands are.
    for (transposes, batches) in [
        ([false, false], [false, false]),
        ([false, true], [false, false]),
        ([true, false], [false, false]),
        ([true, true], [false, false]),
        ([false, false], [true, false]),
        ([false, true], [true, false]),
        ([true, false], [true, true]),
    ] {
        let (m, k, n) = if batches[1] { (4, BATCH, 2) } else { (BATCH, 4, 2) };
        let operand = |rows, columns, which: usize| {
            let shape = if transposes[which] { [columns, rows] } else { [rows, columns] };
            if batches[which] {
                batch(&shape[1..], 4 + which as u64)
            } else {
                fixed(&shape, 6 + which as u64)
            }
        };
        let [transpose_a, transpose_b] = transposes;
        let operands = vec![operand(m, k, 0), operand(k, n, 1)];
        all.push(linear(Op::MatMul { transpose_a, transpose_b }, operands, &[0, 1]));
    }
}

fn activations(all: &mut Vec<Case>) {
    let kinks = [Activation::LeakyRelu { slope: 0.3 }, Activation::Clamp { min: -0.4, max: 0.6 }];
    let curves = [
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::InversePower { exponent: 0.75 },
    ];
    for kind in kinks {
        all.push(linear(Op::Activation(kind), vec![separated(&[4], 8)], &[0]));
    }
    for kind in curves {
        all.push(smooth(Op::Activation(kind), vec![batch(&[4], 9)], &[0]));
    }
    for kind in kinks.into_iter().chain(curves) {
        all.push(linear(Op::ActivationGrad(kind), vec![separated(&[4], 10), batch(&[4], 11)], &[1]));
    }
    all.push(linear(Op::Relu, vec![separated(&[2, 3], 12)], &[0]));
    all.push(linear(Op::ReluGrad, vec![separated(&[6], 13), batch(&[6], 14)], &[1]));
    all.push(smooth(Op::Softmax, vec![batch(&[5], 15)], &[0]));
    all.push(smooth(Op::LogSoftmax, vec![batch(&[5], 15)], &[0]));
    all.push(linear(Op::SoftmaxGrad, vec![batch(&[5], 16), batch(&[5], 17)], &[1]));
}

fn pools(all: &mut Vec<Case>) {
    for window in [
        Window { stride: [2, 2], ..Window::new([2, 2]) },
        Window { stride: [2, 1], padding: Padding::Same, ..Window::new([3, 3]) },
    ] {
        let p = Pool2d { window: window.on([5, 6], "pool").unwrap(), channels: 2 };
        let [h, w] = p.window.output;
        all.push(linear(Op::MaxPool2d(p), vec![separated(&[5, 6, 2], 18)], &[0]));
        all.push(linear(Op::AvgPool2d(p), vec![batch(&[5, 6, 2], 19)], &[0]));
        all.push(linear(Op::AvgPool2dGrad(p), vec![batch(&[h, w, 2], 20)], &[0]));
    }
    for rule in [
        ResamplingRule::Nearest { step: 0.6 },
        ResamplingRule::Linear { step: 0.6 },
        ResamplingRule::LinearCorners,
        ResamplingRule::AdaptiveMean,
        ResamplingRule::WindowMean { kernel: 3, stride: 1, pad_begin: 2, pad_end: 2 },
        ResamplingRule::Interleave { groups: 2 },
    ] {
        let sizes = match rule {
            ResamplingRule::Interleave { .. } => [(4, 4), (6, 6)],
            _ => [(3, 5), (4, 6)],
        };
        let axes = sizes.map(|(input, output)| Resampling { input, output, rule });
        for adjoint in [false, true] {
            let r = Resample2d { axes, channels: 2, adjoint };
            let [h, w] = r.from();
            all.push(linear(Op::Resample2d(r), vec![batch(&[h, w, 2], 30)], &[0]));
        }
    }
    all.push(linear(Op::GlobalAvgPool, vec![batch(&[3, 2, 4], 21)], &[0]));
    all.push(linear(Op::GlobalAvgPoolGrad([3, 2]), vec![batch(&[4], 22)], &[0]));
}

fn table() -> Vec<Case> {
    let mut all = Vec::new();
    convolutions(&mut all);
    matmuls(&mut all);
    activations(&mut all);
    pools(&mut all);
    for x in [batch(&[2, 5], 23), fixed(&[2, 5], 24)] {
        all.push(linear(Op::BiasAdd, vec![x.clone(), fixed(&[5], 25)], &[0, 1]));
        let pair =
            || vec![x.clone(), Operand { data: x.data.iter().map(|x| x.sin()).collect(), ..x.clone() }];
        all.push(linear(Op::Add, pair(), &[0, 1]));
        all.push(linear(Op::Mul, pair(), &[0, 1]));
        all.push(linear(Op::MulChannels, vec![x.clone(), fixed(&[5], 33)], &[0, 1]));
        all.push(linear(Op::Scale(-1.7), vec![x.clone()], &[0]));
        all.push(linear(Op::Concat, pair(), &[0, 1]));
        all.push(linear(Op::SliceChannels { begin: 1, channels: 3 }, vec![x.clone()], &[0]));
        all.push(linear(Op::PadChannels { begin: 2, channels: 9 }, vec![x.clone()], &[0]));
        all.push(linear(Op::Dropout(Dropout { rate: 0.4, layer: 1 }), vec![x], &[0]));
    }
    for extents in [&[4][..], &[2, 4], &[3, 2, 4]] {
        all.push(linear(Op::MulChannels, vec![batch(extents, 34), batch(&[4], 35)], &[0, 1]));
    }
    all.push(linear(Op::Reshape(vec![BATCH, 5, 2]), vec![batch(&[2, 5], 26)], &[0]));
    for (groups, each_position) in [(1, false), (2, false), (6, false), (1, true), (3, true)] {
        let of = Normalization { groups, each_position, epsilon: 1e-2 };
        all.push(smooth(Op::Normalize(of), vec![batch(&[2, 2, 6], 36)], &[0]));
    }
    let [x, targets] = [batch(&[2, 3], 27), batch(&[2, 3], 28)];
    all.push(smooth(Op::MeanSquaredError, vec![x, targets], &[0, 1]));
    let apart = [separated(&[2, 3], 37), separated(&[2, 3], 38)].to_vec();
    for (threshold, slope) in [(0.0, 1.0), (1.5, 0.7)] {
        all.push(smooth(Op::ElementLoss(ElementLoss::Huber { threshold, slope }), apart.clone(), &[0, 1]));
    }
    let share = |seed: u64, extents: &[usize]| {
        let logits = batch(extents, seed);
        Operand { data: logits.data.iter().map(|x| 1.0 / (1.0 + x.exp())).collect(), ..logits }
    };
    let entropy = Op::ElementLoss(ElementLoss::BinaryCrossEntropy { positive_weight: 2.5 });
    all.push(smooth(entropy, vec![batch(&[2, 3], 39), share(40, &[2, 3])], &[0]));
    all.push(smooth(Op::SoftCrossEntropy, vec![batch(&[5], 41), share(42, &[5])], &[0]));
    let statistics =
        [fixed(&[4], 29), fixed(&[4], 30), fixed(&[4], 31), Operand::fixed(&[4], vec![0.5, 1.0, 2.0, 3.0])];
    let operands = || [batch(&[2, 4], 32)].into_iter().chain(statistics.clone()).collect();
    all.push(linear(Op::BatchNorm { epsilon: None }, operands(), &[0, 1, 2]));
    all.push(linear(Op::BatchNorm { epsilon: Some(1e-3) }, operands(), &[0, 1, 2]));
    all
}

/// Builds a graph with one operation. Returns the graph, its inputs and the results of the operation.
fn single(op: &Op, operands: &[Operand]) -> (Graph, Vec<ValueId>, Vec<ValueId>) {
    let mut graph = Graph::new(BATCH).unwrap();
    let mut input = |(number, o): (usize, &Operand)| {
        let name = format!("operand {number}");
        if o.batched {
            graph.batch_input(&name, &o.shape[1..], o.dtype).unwrap()
        } else {
            graph.input(&name, Shape::new(o.shape.as_slice()).unwrap(), o.dtype)
        }
    };
    let inputs: Vec<_> = operands.iter().enumerate().map(&mut input).collect();
    let results = graph.push(op.clone(), &inputs, op.name()).unwrap();
    (graph, inputs, results)
}

#[test]
fn adjoints_match_central_differences() {
    for (number, Case { op, operands, checked, precision: (step, tolerance) }) in
        table().into_iter().enumerate()
    {
        let (mut graph, inputs, results) = single(&op, &operands);
        let mut data: Data = inputs.iter().zip(operands).map(|(&id, o)| (id, o.data)).collect();
        let y = graph.value(results[0]).unwrap().clone();
        // `backward` differentiates the mean of a value. That value is the loss of each example for a loss
        // operation; for any other operation, its elements times random weights, so that each element has a
        // different upstream gradient.
        let is_loss = matches!(op, Op::MeanSquaredError | Op::ElementLoss(_) | Op::SoftCrossEntropy);
        let loss = if is_loss {
            results[0]
        } else {
            let weight = if y.batched {
                graph.batch_input("weight", &y.shape.extents()[1..], DType::F32).unwrap()
            } else {
                graph.input("weight", y.shape.clone(), DType::F32)
            };
            data.push((weight, normal(&mut stream(100 + number as u64), y.shape.elements())));
            graph.push_one(Op::Mul, &[results[0], weight], "weighted").unwrap()
        };
        let checked: Vec<_> = checked.into_iter().map(|operand| inputs[operand]).collect();
        let gradients = graph.backward(loss, &checked).unwrap();
        let pairs: Vec<_> = checked.into_iter().zip(gradients).collect();
        assert_gradients(&format!("{number} {op:?}"), &graph, loss, &pairs, &data, step, tolerance);
    }
}

/// Operations that have no gradient with respect to one of their operands, with the index of that operand.
fn without_adjoint() -> Vec<(Op, Vec<Operand>, usize)> {
    let window = Window { stride: [2, 2], ..Window::new([2, 2]) };
    let pool = Pool2d { window: window.on([4, 4], "pool").unwrap(), channels: 2 };
    let positions = Operand::integers(&[BATCH, 2, 2, 2], vec![0.0; BATCH * 8]);
    let labels = Operand::integers(&[BATCH], vec![0.0; BATCH]);
    let (x, c) = (|| batch(&[4], 1), || fixed(&[4], 2));
    let smoothing = 0.0;
    let of_examples = Normalization { groups: 2, each_position: false, epsilon: 1e-3 };
    vec![
        (Op::BiasGrad, vec![x()], 0),
        (Op::ActivationGrad(Activation::Tanh), vec![x(), x()], 0),
        (Op::SoftmaxGrad, vec![x(), x()], 0),
        (Op::MaxPool2dGrad(pool), vec![positions, batch(&[2, 2, 2], 3)], 1),
        (Op::SoftmaxCrossEntropy { smoothing }, vec![x(), labels.clone()], 0),
        (Op::SoftmaxCrossEntropyGrad { smoothing }, vec![x(), labels], 0),
        (Op::LogSoftmaxGrad, vec![x(), x()], 1),
        (Op::MeanSquaredErrorGrad, vec![x(), x()], 0),
        (Op::ElementLossGrad(ElementLoss::Huber { threshold: 1.0, slope: 1.0 }), vec![x(), x()], 0),
        (Op::SoftCrossEntropyGrad, vec![x(), x()], 0),
        (Op::NormalizeGrad(of_examples), vec![x(), batch(&[2], 4), x()], 2),
        (Op::BatchStatistics { epsilon: 1e-3 }, vec![x()], 0),
        (Op::BatchNorm { epsilon: None }, vec![x(), c(), c(), c(), c()], 3),
        (Op::BatchNorm { epsilon: Some(1e-3) }, vec![x(), c(), c(), c(), c()], 4),
        (Op::BatchNormGradScale { epsilon: None }, vec![x(), x(), c(), c()], 1),
        (Op::BatchNormGradInput, vec![x(), x(), c(), c(), c(), c(), c()], 1),
    ]
}

#[test]
fn missing_adjoint_is_reported_and_leaves_graph_unchanged() {
    for (op, operands, checked) in without_adjoint() {
        let (mut graph, inputs, results) = single(&op, &operands);
        let loss = graph.push_one(Op::Mul, &[results[0], results[0]], "square").unwrap();
        let before = (graph.nodes().len(), graph.values().len());
        match graph.backward(loss, &[inputs[checked]]) {
            Err(Error::NoAdjoint { label, op: name, .. }) => {
                assert_eq!((label.as_str(), name), (op.name(), op.name()));
            }
            other => panic!("{op:?}: {other:?}"),
        }
        assert_eq!((graph.nodes().len(), graph.values().len()), before);
    }
}

/// Checks that this file tests the gradients of every operation in the conformance suite, except those that
/// have none.
#[test]
fn every_operation_is_covered() {
    let mut covered: BTreeSet<_> = table().iter().map(|case| case.op.name()).collect();
    covered.extend(without_adjoint().iter().map(|(op, ..)| op.name()));
    // The result of mean_grad is constant, the gradient of metrics is tested with the losses below, and
    // accumulate, clip and update have no results.
    covered.extend(["mean_grad", "metrics", "accumulate", "clip", "update"]);
    for case in conformance::cases().unwrap() {
        for op in case.op().split('+') {
            assert!(covered.contains(op), "{op}");
        }
    }
}

/// The standard deviations of a normalization have no gradient; that of a binary cross-entropy is for its logits alone.
#[test]
fn results_and_operands_without_a_gradient_are_refused() {
    let mut graph = Graph::new(2).unwrap();
    let x = graph.batch_input("x", &[4], DType::F32).unwrap();
    let of = Normalization { groups: 1, each_position: false, epsilon: 1e-3 };
    let results = graph.push(Op::Normalize(of), &[x], "norm").unwrap();
    let square = graph.push_one(Op::Mul, &[results[1], results[1]], "square").unwrap();
    let error = graph.backward(square, &[x]).unwrap_err().to_string();
    assert!(error.contains("norm") && error.contains("standard deviations"), "{error}");
    let target = graph.batch_input("target", &[4], DType::F32).unwrap();
    for op in
        [Op::SoftCrossEntropy, Op::ElementLoss(ElementLoss::BinaryCrossEntropy { positive_weight: 1.0 })]
    {
        let loss = graph.push_one(op.clone(), &[x, target], "loss").unwrap();
        assert!(matches!(graph.backward(loss, &[target]), Err(Error::NoAdjoint { .. })), "{op:?}");
    }
}

/// The gradient of a value that is given, instead of a loss.
#[test]
fn gradients_continue_from_a_given_one() {
    let mut graph = Graph::new(3).unwrap();
    let x = graph.batch_input("x", &[4], DType::F32).unwrap();
    let w = graph.parameter("w", Shape::new([4, 2]).unwrap()).unwrap();
    let matmul = Op::MatMul { transpose_a: false, transpose_b: false };
    let y = graph.push_one(matmul, &[x, w], "y").unwrap();
    let given = graph.batch_input("given", &[2], DType::F32).unwrap();
    let narrow = graph.batch_input("narrow", &[1], DType::F32).unwrap();
    let before = graph.nodes().len();
    assert!(matches!(graph.backward_from(y, narrow, &[w]), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(graph.backward_from(x, given, &[w]), Err(Error::ShapeMismatch { .. })));
    assert_eq!(graph.nodes().len(), before);
    // The mean of y * given over all valid elements.
    let product = graph.push_one(Op::Mul, &[y, given], "product").unwrap();
    let share = graph.push_one(Op::MeanGrad, &[product], "share").unwrap();
    let seed = graph.push_one(Op::Mul, &[given, share], "seed").unwrap();
    let gradients = graph.backward_from(y, seed, &[w, x]).unwrap();
    let data =
        [(x, 12), (w, 8), (given, 6)].map(|(id, count)| (id, normal(&mut stream(count as u64), count)));
    let pairs = [(w, gradients[0]), (x, gradients[1])];
    assert_gradients("given", &graph, product, &pairs, &data.to_vec(), LINEAR.0, LINEAR.1);
}

#[test]
fn batch_norm_is_differentiated_through_batch_statistics() {
    let mut graph = Graph::new(5).unwrap();
    let x = graph.batch_input("x", &[2, 3], DType::F32).unwrap();
    let [scale, shift] = ["scale", "shift"].map(|p| graph.parameter(p, Shape::new([3]).unwrap()).unwrap());
    let statistics = graph.push(Op::BatchStatistics { epsilon: 1e-3 }, &[x], "statistics").unwrap();
    let operands = [x, scale, shift, statistics[0], statistics[1]];
    let y = graph.push_one(Op::BatchNorm { epsilon: None }, &operands, "bn").unwrap();
    let weight = graph.batch_input("weight", &[2, 3], DType::F32).unwrap();
    let loss = graph.push_one(Op::Mul, &[y, weight], "weighted").unwrap();
    let checked = [x, scale, shift];
    let gradients = graph.backward(loss, &checked).unwrap();
    let pairs: Vec<_> = checked.into_iter().zip(gradients).collect();
    assert_gradients("batch norm", &graph, loss, &pairs, &draw(&graph, 0, 1), SMOOTH.0, SMOOTH.1);
}

/// Differentiates a sum of two losses. The network has two outputs, each with class-weighted, label-smoothed
/// cross-entropy; the second loss is scaled by 0.4, and `Op::Metrics` computes the class-weighted mean of the
/// sum.
#[test]
fn weighted_sum_of_losses_matches_central_differences() {
    for (weighted, smoothing) in [(false, 0.0), (true, 0.0), (true, 0.2)] {
        let mut graph = Graph::new(4).unwrap();
        let x = graph.batch_input("x", &[3], DType::F32).unwrap();
        let labels = graph.batch_input("labels", &[], DType::U32).unwrap();
        let weights = graph.input("weights", Shape::new([5]).unwrap(), DType::F32);
        let mut losses = Vec::new();
        let mut checked = vec![x];
        let mut operands = Vec::new();
        for head in ["main", "auxiliary"] {
            let w = graph.parameter(head, Shape::new([3, 5]).unwrap()).unwrap();
            let matmul = Op::MatMul { transpose_a: false, transpose_b: false };
            let logits = graph.push_one(matmul, &[x, w], head).unwrap();
            operands = vec![logits, labels];
            operands.extend(weighted.then_some(weights));
            losses.push(graph.push_one(Op::SoftmaxCrossEntropy { smoothing }, &operands, head).unwrap());
            checked.push(w);
        }
        let scaled = graph.push_one(Op::Scale(0.4), &[losses[1]], "scaled").unwrap();
        let sum = graph.push_one(Op::Add, &[losses[0], scaled], "sum").unwrap();
        operands.insert(0, sum);
        let mean = graph.push_one(Op::Metrics, &operands, "metrics").unwrap();
        let gradients = graph.backward(mean, &checked).unwrap();
        let pairs: Vec<_> = checked.into_iter().zip(gradients).collect();
        let mut data = draw(&graph, 5, 3);
        data.iter_mut()
            .filter(|(id, _)| *id == weights)
            .for_each(|(_, w)| w.iter_mut().for_each(|w| *w = w.abs() + 0.3));
        assert_gradients("sum of losses", &graph, mean, &pairs, &data, SMOOTH.0, SMOOTH.1);
    }
}

#[test]
fn mean_with_class_weights_other_than_the_loss_is_rejected() {
    let mut graph = Graph::new(4).unwrap();
    let logits = graph.batch_input("logits", &[5], DType::F32).unwrap();
    let labels = graph.batch_input("labels", &[], DType::U32).unwrap();
    let [own, others] = ["own", "others"].map(|name| graph.input(name, Shape::new([5]).unwrap(), DType::F32));
    let op = Op::SoftmaxCrossEntropy { smoothing: 0.0 };
    let losses = graph.push_one(op, &[logits, labels, own], "loss").unwrap();
    let plain = graph.push_one(Op::Metrics, &[losses], "plain").unwrap();
    let other = graph.push_one(Op::Metrics, &[losses, logits, labels, others], "other").unwrap();
    for loss in [losses, plain, other] {
        let result = graph.backward(loss, &[logits]);
        assert!(matches!(&result, Err(Error::NoAdjoint { label, .. }) if label == "loss"), "{result:?}");
    }
    let own = graph.push_one(Op::Metrics, &[losses, logits, labels, own], "own").unwrap();
    assert!(graph.backward(own, &[logits]).is_ok());
    // `Op::Metrics` with class weights has a gradient for cross-entropy only, so a class-weighted mean of
    // squared errors is rejected.
    let square = graph.push_one(Op::MeanSquaredError, &[logits, logits], "square").unwrap();
    let mean = graph.push_one(Op::Metrics, &[square, logits, labels, others], "mean").unwrap();
    assert!(matches!(graph.backward(mean, &[logits]), Err(Error::NoAdjoint { .. })));
}

/// The gradient of a value with several uses is the sum of the gradients of all uses. The graph uses `w`
/// three times and `x` twice, and has a multiplication and an addition whose two operands are the same value.
#[test]
fn gradients_of_several_uses_are_summed() {
    let mut graph = Graph::new(3).unwrap();
    let x = graph.batch_input("x", &[4], DType::F32).unwrap();
    let w = graph.parameter("w", Shape::new([4, 4]).unwrap()).unwrap();
    let mut h = x;
    for number in 0..3 {
        let matmul = Op::MatMul { transpose_a: false, transpose_b: false };
        h = graph.push_one(matmul, &[h, w], &format!("matmul{number}")).unwrap();
    }
    let square = graph.push_one(Op::Mul, &[h, h], "square").unwrap();
    let twice = graph.push_one(Op::Add, &[square, square], "twice").unwrap();
    let loss = graph.push_one(Op::Add, &[twice, x], "loss").unwrap();
    let begin = graph.nodes().len();
    let gradients = graph.backward(loss, &[w, x, h, w]).unwrap();
    assert_eq!(gradients[0], gradients[3]);
    let pairs = [(w, gradients[0]), (x, gradients[1])];
    assert_gradients("several uses", &graph, loss, &pairs, &draw(&graph, 0, 5), SMOOTH.0, SMOOTH.1);
    let labels: Vec<_> = graph.nodes()[begin..].iter().map(|node| node.label.as_str()).collect();
    // Labels of the appended operations. The gradient of the mean of `loss` is scaled by 2 for `square`,
    // because both operands of `twice` are `square`, and by 1 for `x`.
    let expected = [
        "square grad",
        "square grad",
        "square grad_a",
        "square grad_b",
        "square grad_input",
        "matmul2 grad_kernel",
        "matmul2 grad_input",
        "matmul1 grad_kernel",
        "matmul1 grad_input",
        "matmul0 grad_kernel",
        "matmul0 grad_input",
        "x grad",
        "loss grad_input",
        "w grad",
        "w grad",
    ];
    assert_eq!(labels, expected);
}

/// `backward` appends gradients from the last layer to the first: within a layer for bias, kernel and input;
/// within a residual layer for the main branch and the shortcut, followed by the sum of both. The order must
/// not change, because the fusion of operations in a plan and the bits of trained weights depend on it.
#[test]
fn gradients_of_model_are_in_fixed_order() {
    let model = Model::input([4, 4, 2])
        .conv2d("stem", 2, [1, 1], |c| c)
        .residual(
            "block1",
            |m| m.conv2d("conv1", 2, [3, 3], |c| c.padding(Padding::Same)).batch_norm("bn1"),
            |s| s,
        )
        .relu()
        .residual(
            "block2",
            |m| m.conv2d("conv1", 3, [2, 2], |c| c.stride([2, 2])).relu().batch_norm("bn1"),
            |s| s.conv2d("project", 3, [1, 1], |c| c.stride([2, 2])),
        )
        .max_pool2d([2, 2])
        .flatten()
        .dense("fc", 3)
        .build()
        .unwrap();
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let graph = model.training_graph(4, Loss::SoftmaxCrossEntropy, rule).unwrap().graph;
    let labels: Vec<_> = graph.nodes().iter().map(|node| node.label.as_str()).collect();
    let begin = labels.iter().position(|label| *label == "loss grad").unwrap();
    let expected = [
        "loss grad",
        "fc grad_bias",
        "fc grad_kernel",
        "fc grad_input",
        "flatten5 grad_input",
        "max_pool4 grad_input",
        "block2.bn1 grad_scale",
        "block2.bn1 grad_shift",
        "block2.bn1 grad_input",
        "block2.relu1 grad_input",
        "block2.conv1 grad_bias",
        "block2.conv1 grad_kernel",
        "block2.conv1 grad_input",
        "block2.project grad_bias",
        "block2.project grad_kernel",
        "block2.project grad_input",
        "block2 grad_input",
        "relu2 grad_input",
        "block1.bn1 grad_scale",
        "block1.bn1 grad_shift",
        "block1.bn1 grad_input",
        "block1.conv1 grad_bias",
        "block1.conv1 grad_kernel",
        "block1.conv1 grad_input",
        "block1 grad_input",
        "stem grad_bias",
        "stem grad_kernel",
        "block1.bn1 running",
        "block2.bn1 running",
        "update",
    ];
    assert_eq!(labels[begin..], expected);
}

#[test]
fn unneeded_gradients_are_not_appended() {
    let model = Model::input([5]).dense("fc1", 4).relu().dense("fc2", 3).build().unwrap();
    let built = model.evaluation_graph(2, Loss::SoftmaxCrossEntropy).unwrap();
    let appended = |checked: &[&str]| {
        let mut graph = built.graph.clone();
        let begin = graph.nodes().len();
        let value = |path: &&str| {
            let number = graph.parameters().iter().position(|p| p.path == **path).unwrap();
            graph.parameter_value(frazil::low_level::ParameterId::of(number)).unwrap()
        };
        let checked: Vec<_> = checked.iter().map(value).collect();
        graph.backward(built.mean_loss, &checked).unwrap();
        graph.nodes()[begin..].iter().map(|node| node.label.clone()).collect::<Vec<_>>()
    };
    assert_eq!(appended(&[]), [""; 0]);
    assert_eq!(appended(&["fc2.bias"]), ["loss grad", "fc2 grad_bias"]);
    assert_eq!(appended(&["fc2.kernel"]), ["loss grad", "fc2 grad_kernel"]);
    assert_eq!(appended(&["fc1.bias"]), ["loss grad", "fc2 grad_input", "relu1 grad_input", "fc1 grad_bias"]);
}

#[test]
fn values_without_gradient_are_reported() {
    let mut graph = Graph::new(2).unwrap();
    let x = graph.batch_input("x", &[3], DType::F32).unwrap();
    let [w, unused] = ["w", "unused"].map(|path| graph.parameter(path, Shape::new([3, 3]).unwrap()).unwrap());
    let labels = graph.batch_input("labels", &[], DType::U32).unwrap();
    let matmul = Op::MatMul { transpose_a: false, transpose_b: false };
    let y = graph.push_one(matmul.clone(), &[x, w], "y").unwrap();
    let later = graph.push_one(matmul, &[y, unused], "later").unwrap();
    // Each of these losses has no gradient with respect to `unused`: `y` does not depend on it, `ReluGrad`
    // depends on `later` only through the sign of its elements, and `MeanGrad` only through their number.
    let gate = graph.push_one(Op::ReluGrad, &[later, y], "gate").unwrap();
    let constant = graph.push_one(Op::MeanGrad, &[later], "constant").unwrap();
    for loss in [y, gate, constant] {
        let result = graph.backward(loss, &[unused]);
        assert!(matches!(&result, Err(Error::NoGradient { value, .. }) if value == "unused"), "{result:?}");
    }
    assert!(graph.backward(later, &[w, unused, x, y, later]).is_ok());
    for (loss, value) in [(labels, w), (y, labels)] {
        assert!(
            matches!(graph.backward(loss, &[value]), Err(Error::InvalidArgument { at, .. }) if at == "labels")
        );
    }
    let foreign = Graph::new(2).unwrap().backward(y, &[w]);
    assert!(matches!(foreign, Err(Error::InvalidArgument { .. })));
}

#[test]
fn backward_after_update_of_operands_is_rejected() {
    let mut graph = Graph::new(2).unwrap();
    let x = graph.batch_input("x", &[3], DType::F32).unwrap();
    let w = graph.parameter("w", Shape::new([3, 3]).unwrap()).unwrap();
    let matmul = Op::MatMul { transpose_a: false, transpose_b: false };
    let y = graph.push_one(matmul.clone(), &[x, w], "y").unwrap();
    let gradient = graph.backward(y, &[w]).unwrap();
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let id = frazil::low_level::ParameterId::of(0);
    graph.push(Op::Update(rule, vec![id.into()]), &gradient, "update").unwrap();
    let late = graph.backward(y, &[x]);
    assert!(matches!(&late, Err(Error::InvalidArgument { at, .. }) if at == "y"), "{late:?}");
    // A value that is computed after the update, from the updated weights, can be differentiated.
    let again = graph.push_one(matmul, &[x, w], "again").unwrap();
    assert!(graph.backward(again, &[x]).is_ok());
}
