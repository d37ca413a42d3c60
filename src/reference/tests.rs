//! Tests of the interpreter and of updates against values computed by hand.

use super::*;
use crate::graph::{Conv2d, Pool2d, UpdateRule};
use crate::shape::{Padding, Shape, Window};

const SGD: UpdateRule = UpdateRule::Sgd { momentum: 0.5, nesterov: false, weight_decay: 0.25 };
const ADAM: UpdateRule = UpdateRule::Adam {
    beta1: 0.5,
    beta2: 0.75,
    epsilon: 0.5,
    weight_decay: 0.25,
    decoupled: false,
    amsgrad: false,
};

fn shape(extents: &[usize]) -> Shape {
    Shape::new(extents).unwrap()
}

fn step(rows: u32, learning_rate: f32) -> StepScalars {
    StepScalars { rows, learning_rate, ..StepScalars::forward(1) }
}

/// A graph that updates `w [3]` from the gradient `g [3]`, an input.
fn updater(rule: UpdateRule) -> (Reference, ValueId, ValueId) {
    let mut graph = Graph::new(1).unwrap();
    let w = graph.parameter("w", shape(&[3])).unwrap();
    let g = graph.input("g", shape(&[3]), DType::F32);
    graph.push(Op::Update(rule, vec![ParameterId(0).into()]), &[g], "update").unwrap();
    (Reference::new(&graph).unwrap(), w, g)
}

#[test]
fn sgd_matches_hand_computation() {
    let (mut r, w, g) = updater(SGD);
    r.write(w, &[1.0, 2.0, 4.0]).unwrap();
    r.write(g, &[0.5, 0.5, 1.0]).unwrap();
    r.run(step(1, 0.5)).unwrap();
    // The momentum buffer after the first step is g + weight_decay * w with weight_decay = 1/4.
    assert_eq!(r.state(ParameterId(0), 0), [0.75, 1.0, 2.0]);
    assert_eq!(r.read(w), [0.625, 1.5, 3.0]);
    r.write(g, &[0.0; 3]).unwrap();
    r.run(step(1, 0.5)).unwrap();
    assert_eq!(r.state(ParameterId(0), 0)[1], 0.5 + 0.375);
    assert_eq!(r.read(w)[1], 1.5 - 0.4375);
}

#[test]
fn nesterov_and_plain_sgd_match_hand_computation() {
    let (mut r, w, g) = updater(UpdateRule::Sgd { momentum: 0.5, nesterov: true, weight_decay: 0.0 });
    r.write(g, &[1.0; 3]).unwrap();
    r.run(step(1, 1.0)).unwrap();
    assert_eq!(r.read(w), [-1.5; 3]);
    let (mut r, w, g) = updater(UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 });
    r.write(g, &[1.0; 3]).unwrap();
    r.run(step(1, 1.0)).unwrap();
    assert_eq!(r.read(w), [-1.0; 3]);
    assert!(r.state(ParameterId(0), 0).is_empty());
}

#[test]
fn adam_matches_hand_computation() {
    for (decoupled, g, expected) in [(false, 0.0, 4.0 - 1.0 / 1.5), (true, 1.0, 3.0 - 1.0 / 1.5)] {
        let UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, .. } = ADAM else { unreachable!() };
        let (mut r, w, gradient) =
            updater(UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled, amsgrad: false });
        r.write(w, &[4.0; 3]).unwrap();
        r.write(gradient, &[g; 3]).unwrap();
        r.run(StepScalars { correction1: 0.5, correction2: 0.25, ..step(1, 1.0) }).unwrap();
        assert_eq!(r.state(ParameterId(0), 0), [0.5; 3]);
        assert_eq!(r.state(ParameterId(0), 1), [0.25; 3]);
        assert!((r.read(w)[0] - expected).abs() < 1e-15, "{} {expected}", r.read(w)[0]);
    }
}

#[test]
fn frozen_elements_keep_weight_and_state_bits() {
    let odd = f64::from_bits(0x7ff8_0000_dead_beef);
    for rule in [SGD, ADAM] {
        let (mut r, w, g) = updater(rule);
        let parameter = ParameterId(0);
        r.write(w, &[odd, -0.0, 1.0]).unwrap();
        for slot in 0..rule.slots().len() {
            r.write_state(parameter, slot, &[-0.0, odd, 0.0]).unwrap();
        }
        r.set_mask(parameter, &Mask::from_frozen([true, true, false])).unwrap();
        for g_value in [1.0, f64::NAN, f64::INFINITY] {
            r.write(g, &[g_value; 3]).unwrap();
            r.run(step(1, 0.5)).unwrap();
            assert_eq!(r.read(w)[0].to_bits(), odd.to_bits());
            assert_eq!(r.read(w)[1].to_bits(), (-0.0f64).to_bits());
            for slot in 0..rule.slots().len() {
                assert_eq!(r.state(parameter, slot)[0].to_bits(), (-0.0f64).to_bits());
                assert_eq!(r.state(parameter, slot)[1].to_bits(), odd.to_bits());
            }
        }
        assert_ne!(r.read(w)[2], 1.0);
    }
}

/// Creates a graph of a cross-entropy over 3 classes, its metrics, and an SGD update of `w [1]` by the
/// gradient 1. Returns the values `[logits, labels, w, loss, mean]`.
fn loss_and_update(batch: usize) -> (Reference, [ValueId; 5]) {
    let mut graph = Graph::new(batch).unwrap();
    let logits = graph.batch_input("logits", &[3], DType::F32).unwrap();
    let labels = graph.batch_input("labels", &[], DType::U32).unwrap();
    let w = graph.parameter("w", shape(&[1])).unwrap();
    let g = graph.input("g", shape(&[1]), DType::F32);
    let loss = graph.push_one(Op::SoftmaxCrossEntropy { smoothing: 0.0 }, &[logits, labels], "loss").unwrap();
    let mean = graph.push_one(Op::Metrics, &[loss, logits, labels], "metrics").unwrap();
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    graph.push(Op::Update(rule, vec![ParameterId(0).into()]), &[g], "update").unwrap();
    let mut r = Reference::new(&graph).unwrap();
    r.write(g, &[1.0]).unwrap();
    (r, [logits, labels, w, loss, mean])
}

#[test]
fn non_finite_loss_stops_updates_permanently() {
    for logit in [f64::NAN, f64::INFINITY] {
        let (mut r, [logits, _, w, ..]) = loss_and_update(1);
        r.write(logits, &[logit, 0.0, 0.0]).unwrap();
        r.run(StepScalars { on_non_finite_continue: 1, ..step(1, 1.0) }).unwrap();
        assert_eq!(r.read(w), [-1.0]);
        r.run(step(1, 1.0)).unwrap();
        assert_eq!(r.read(w), [-1.0]);
        r.write(logits, &[0.0; 3]).unwrap();
        r.reset_sums();
        r.run(step(1, 1.0)).unwrap();
        assert_eq!(r.read(w), [-1.0]);
        assert!((r.sums().loss - 3f64.ln()).abs() < 1e-15);
    }
}

#[test]
fn metrics_use_only_rows_in_use() {
    let (mut r, [logits, labels, _, loss, mean]) = loss_and_update(4);
    // The first run has 3 valid rows of 4. Row 0: the label is the first of two equal maxima, which counts as
    // correct. Row 1: the label is the second of two equal maxima, which counts as incorrect. Row 2: correct.
    // Row 3 is not valid; its NaN logit and its label out of range must be ignored.
    r.write(logits, &[1., 1., 0., 0., 2., 2., -3., -2., -1., f64::NAN, 0., 0.]).unwrap();
    r.write(labels, &[0.0, 2.0, 2.0, 9.0]).unwrap();
    r.run(step(3, 0.0)).unwrap();
    r.run(step(1, 0.0)).unwrap();
    let losses = r.read(loss).to_vec();
    let expected = ReferenceSums {
        loss: losses[..3].iter().sum::<f64>() + losses[0],
        correct: 3,
        examples: 4,
        weight: 0.0,
    };
    assert_eq!(r.sums(), expected);
    assert_eq!(r.read(mean), [losses[0]]);
    assert_eq!(losses[3], 0.0);
    r.reset_sums();
    assert_eq!(r.sums(), ReferenceSums::default());
    let all = r.run(step(4, 0.0));
    assert!(matches!(all, Err(Error::LabelOutOfRange { row: 3, label: 9, classes: 3 })), "{all:?}");
}

fn max_pool(input: [usize; 2], window: Window) -> Pool2d {
    Pool2d { window: window.on(input, "pool").unwrap(), channels: 1 }
}

#[test]
fn max_pool_selects_first_maximum_with_padding_and_nan() {
    let mut graph = Graph::new(1).unwrap();
    let padding = Padding::Explicit { top: 2, bottom: 0, left: 0, right: 1 };
    let p = max_pool([2, 3], Window { padding, stride: [2, 2], ..Window::new([2, 2]) });
    assert_eq!(p.window.output, [2, 2]);
    let x = graph.batch_input("x", &[2, 3, 1], DType::F32).unwrap();
    let pooled = graph.push(Op::MaxPool2d(p), &[x], "pool").unwrap();
    let dy = graph.batch_input("dy", &[2, 2, 1], DType::F32).unwrap();
    let dx = graph.push_one(Op::MaxPool2dGrad(p), &[pooled[1], dy], "pool grad").unwrap();
    let mut r = Reference::new(&graph).unwrap();
    r.write(dy, &[1.0, 2.0, 4.0, 8.0]).unwrap();
    let (low, none) = (f64::NEG_INFINITY, f64::from(u32::MAX));

    r.write(x, &[-1.0, -1.0, f64::NAN, -2.0, -1.0, f64::NAN]).unwrap();
    r.run(step(1, 0.0)).unwrap();
    // Output pixels 0 and 1 have windows entirely in the padding, window 2 has equal maxima, and window 3
    // contains NaN and padding.
    assert_eq!(r.read(pooled[0])[..3], [low, low, -1.0]);
    assert!(r.read(pooled[0])[3].is_nan());
    assert_eq!(r.read(pooled[1]), [none, none, 0.0, 0.0]);
    assert_eq!(r.read(dx), [4.0, 0.0, 8.0, 0.0, 0.0, 0.0]);

    r.write(x, &[-2.0, f64::NAN, 0.0, -1.0, -1.0, 3.0]).unwrap();
    r.run(step(1, 0.0)).unwrap();
    assert!(r.read(pooled[0])[2].is_nan());
    assert_eq!(r.read(pooled[0])[3], 3.0);
    assert_eq!(r.read(pooled[1]), [none, none, 1.0, 2.0]);
    assert_eq!(r.read(dx), [0.0, 4.0, 0.0, 0.0, 0.0, 8.0]);
}

#[test]
fn max_pool_of_nan_and_padding_selects_first_tap_inside_image() {
    let mut graph = Graph::new(1).unwrap();
    let padding = Padding::Explicit { top: 1, bottom: 0, left: 1, right: 0 };
    let p = max_pool([1, 1], Window { padding, ..Window::new([2, 2]) });
    let x = graph.batch_input("x", &[1, 1, 1], DType::F32).unwrap();
    let pooled = graph.push(Op::MaxPool2d(p), &[x], "pool").unwrap();
    let mut r = Reference::new(&graph).unwrap();
    for lowest in [f64::NAN, f64::NEG_INFINITY] {
        r.write(x, &[lowest]).unwrap();
        r.run(step(1, 0.0)).unwrap();
        assert_eq!(r.read(pooled[0])[0].to_bits(), lowest.to_bits());
        assert_eq!(r.read(pooled[1]), [3.0]);
    }
}

#[test]
fn unused_rows_are_neither_read_nor_written() {
    let mut graph = Graph::new(3).unwrap();
    let x = graph.batch_input("x", &[2, 2, 1], DType::F32).unwrap();
    let kernel = graph.parameter("kernel", shape(&[2, 2, 1, 1])).unwrap();
    let c = Conv2d::new([2, 2, 1], 1, Window::new([2, 2]), 1, "conv").unwrap();
    let y = graph.push_one(Op::Conv2d(c), &[x, kernel], "conv").unwrap();
    let dkernel = graph.push_one(Op::Conv2dGradKernel(c), &[x, y], "conv grad_kernel").unwrap();
    let flat = graph.push_one(Op::Reshape(vec![3, 4]), &[x], "flat").unwrap();
    let matmul = Op::MatMul { transpose_a: true, transpose_b: false };
    let gram = graph.push_one(matmul, &[flat, flat], "gram").unwrap();
    let mut r = Reference::new(&graph).unwrap();
    let nan = f64::NAN;
    r.write(x, &[1., 2., 3., 4., 5., 6., 7., 8., nan, nan, nan, nan]).unwrap();
    r.write(kernel, &[1.0, 1.0, 1.0, 1.0]).unwrap();
    r.run(step(2, 0.0)).unwrap();
    assert_eq!(r.read(y), [10.0, 26.0, 0.0]);
    assert_eq!(r.read(dkernel), [10. + 5. * 26., 20. + 6. * 26., 30. + 7. * 26., 40. + 8. * 26.]);
    assert_eq!(r.read(gram)[..4], [1. + 25., 2. + 30., 3. + 35., 4. + 40.]);
    assert_eq!(r.read(flat)[8..], [0.0; 4]);
}

#[test]
fn invalid_arguments_are_rejected() {
    let (mut r, w, g) = updater(SGD);
    assert!(matches!(r.write(w, &[0.0; 4]), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(r.write(ValueId(9), &[0.0]), Err(Error::InvalidArgument { .. })));
    assert!(r.read(ValueId(9)).is_empty() && r.state(ParameterId(9), 0).is_empty());
    assert!(matches!(
        r.set_mask(ParameterId(9), &Mask::none(3).unwrap()),
        Err(Error::InvalidArgument { .. })
    ));
    let short = r.set_mask(ParameterId(0), &Mask::none(2).unwrap());
    assert!(matches!(short, Err(Error::MaskMismatch { expected: 3, got: 2, .. })));
    assert!(matches!(r.write_state(ParameterId(0), 1, &[0.0; 3]), Err(Error::InvalidArgument { .. })));
    assert!(matches!(r.write_state(ParameterId(0), 0, &[0.0]), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(r.write_state(ParameterId(1), 0, &[0.0]), Err(Error::InvalidArgument { .. })));
    assert!(matches!(r.run(step(0, 0.0)), Err(Error::EmptyBatch { .. })));
    assert!(matches!(r.run(step(2, 0.0)), Err(Error::InvalidArgument { .. })));
    assert!(r.write(g, &[0.0; 3]).is_ok());

    let (mut r, [_, labels, _, loss, _]) = loss_and_update(1);
    assert!(matches!(r.write(loss, &[0.0]), Err(Error::InvalidArgument { .. })));
    for label in [-1.0, 0.5, f64::NAN, 4_294_967_296.0] {
        assert!(matches!(r.write(labels, &[label]), Err(Error::InvalidArgument { .. })));
    }
}
