//! Tests of losses, evaluation and prediction through a trainer.

use crate::support::device::gpu;
use frazil::data::synthetic;
use frazil::low_level::{Plan, PlanOptions, UpdateRule};
use frazil::{Batch, Dataset, Error, Loss, Mask, Model, Sgd, Trainer, TrainerOptions};

/// A model of one dense layer with 3 inputs.
fn linear_model(outputs: usize) -> Model {
    Model::input([3]).dense("fc", outputs).build().unwrap()
}

fn trainer(model: Model, loss: impl Into<Loss>, rate: f64) -> Trainer {
    Trainer::new(gpu(), model, loss, Sgd::new(rate), TrainerOptions::batch(4).seed(5)).unwrap()
}

/// Returns `-log(softmax(row))`, computed in f64.
fn negative_log_softmax(row: &[f32]) -> Vec<f64> {
    let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
    row.iter().map(|&x| sum.ln() - f64::from(x)).collect()
}

#[test]
fn mean_squared_error_fits_linear_function() {
    let x = synthetic("x", [3], 1, 30, 1).unwrap();
    let targets = x.features().chunks(3).flat_map(|r| [r[0] - 2.0 * r[2], 0.5 + r[1]]).collect();
    let data = Dataset::regression("line", [3], x.features().to_vec(), [2], targets).unwrap();
    let mut t = trainer(linear_model(2), Loss::MeanSquaredError, 0.2);
    let before = t.evaluate(&data).unwrap();
    assert!(before.loss > 1.0 && before.correct.is_none() && before.confusion.is_none());
    for epoch in 0..40 {
        for batch in data.batches_for_epoch(4, 2, epoch).unwrap() {
            t.step(&batch).unwrap();
        }
    }
    assert!(t.metrics().unwrap().correct.is_none());
    let after = t.evaluate(&data).unwrap();
    assert!(after.loss < 1e-6 && after.examples == 30, "{after}");
    let outputs = t.predict(data.features()).unwrap();
    let error = outputs.iter().zip(data.targets()).map(|(y, t)| f64::from(y - t).powi(2)).sum::<f64>();
    assert!((error / 60.0 - after.loss).abs() < 1e-9, "{error} {}", after.loss);
}

/// Every loss of targets: evaluation gives the value of its definition, and training reduces it.
#[test]
fn losses_of_targets_match_their_definitions_and_train() {
    let x = synthetic("x", [3], 1, 30, 1).unwrap();
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let huber = |d: f64, delta: f64| {
        if d.abs() <= delta { d * d / 2.0 } else { delta * (d.abs() - delta / 2.0) }
    };
    type Definition<'a> = Box<dyn Fn(f64, f64) -> f64 + 'a>;
    let losses: [(Loss, Definition); 5] = [
        (Loss::L1, Box::new(|y, t| (y - t).abs())),
        (Loss::Huber { delta: 0.4 }, Box::new(|y, t| huber(y - t, 0.4))),
        (Loss::SmoothL1 { beta: 0.4 }, Box::new(|y, t| huber(y - t, 0.4) / 0.4)),
        (Loss::SmoothL1 { beta: 0.0 }, Box::new(|y, t| (y - t).abs())),
        (
            Loss::BinaryCrossEntropy { positive_weight: 3.0 },
            Box::new(|y, t| 3.0 * t * softplus(-y) + (1.0 - t) * softplus(y)),
        ),
    ];
    for (loss, definition) in losses {
        let is_entropy = matches!(loss, Loss::BinaryCrossEntropy { .. });
        let of_row = |r: &[f32]| [r[0] - 2.0 * r[2], 0.5 + r[1]];
        let targets = x.features().chunks(3).flat_map(of_row);
        let targets = targets.map(|t| if is_entropy { f32::from(t > 0.3) } else { t }).collect();
        let data = Dataset::regression("line", [3], x.features().to_vec(), [2], targets).unwrap();
        let mut t = trainer(linear_model(2), loss.clone(), 0.2);
        let before = t.evaluate(&data).unwrap();
        let outputs = t.predict(data.features()).unwrap();
        let wanted = outputs.iter().zip(data.targets());
        let wanted = wanted.map(|(&y, &t)| definition(y.into(), t.into())).sum::<f64>() / 60.0;
        assert!((before.loss - wanted).abs() < 1e-6 * wanted, "{loss:?}: {} {wanted}", before.loss);
        assert!(before.correct.is_none(), "{loss:?}");
        for epoch in 0..40 {
            for batch in data.batches_for_epoch(4, 2, epoch).unwrap() {
                t.step(&batch).unwrap();
            }
        }
        let after = t.evaluate(&data).unwrap();
        assert!(after.loss < 0.3 * before.loss, "{loss:?}: {before} {after}");
    }
}

/// With targets of one class each, it is the softmax cross-entropy of labels; those of all classes train a network to
/// their shares.
#[test]
fn soft_cross_entropy_of_labels_is_that_of_their_classes() {
    let data = synthetic("rows", [3], 3, 10, 4).unwrap();
    let one_hot =
        data.labels().iter().flat_map(|&label| (0..3).map(move |c| f32::from(c == label))).collect();
    let soft = Dataset::regression("soft", [3], data.features().to_vec(), [3], one_hot).unwrap();
    let (mut hard_trainer, mut soft_trainer) = (
        trainer(linear_model(3), Loss::SoftmaxCrossEntropy, 0.3),
        trainer(linear_model(3), Loss::SoftCrossEntropy, 0.3),
    );
    for (hard, soft) in data.in_order(4).unwrap().zip(soft.in_order(4).unwrap()) {
        let [a, b] = [hard_trainer.step_loss(&hard).unwrap(), soft_trainer.step_loss(&soft).unwrap()];
        assert!((a - b).abs() <= 1e-6 * a, "{a} {b}");
    }
    let [a, b] = [&hard_trainer, &soft_trainer].map(|t| t.predict(data.features()).unwrap());
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");

    let shares = [0.2f32, 0.7, 0.1];
    let features = data.features()[..12].to_vec();
    let batch = Batch { features: features.clone(), labels: vec![0; 4], targets: shares.repeat(4) };
    (0..200).for_each(|_| soft_trainer.step(&batch).unwrap());
    for row in soft_trainer.predict(&features).unwrap().chunks(3) {
        let probabilities = negative_log_softmax(row).into_iter().map(|x| (-x).exp());
        for (got, wanted) in probabilities.zip(shares) {
            assert!((got - f64::from(wanted)).abs() < 0.02, "{row:?}");
        }
    }
}

#[test]
fn class_weights_and_label_smoothing_match_definition() {
    let data = synthetic("rows", [3], 3, 10, 4).unwrap();
    let weights = [0.5f32, 2.0, 1.25];
    let loss = Loss::cross_entropy().label_smoothing(0.2).class_weights(weights.to_vec());
    let t = trainer(linear_model(3), loss, 0.1);
    let outputs = t.predict(data.features()).unwrap();
    let (mut total, mut divisor) = (0.0, 0.0);
    for (row, &label) in outputs.chunks(3).zip(data.labels()) {
        let (costs, w) = (negative_log_softmax(row), weights.map(f64::from));
        total += 0.8 * w[label as usize] * costs[label as usize];
        total += 0.2 / 3.0 * costs.iter().zip(w).map(|(c, w)| c * w).sum::<f64>();
        divisor += w[label as usize];
    }
    // The trainer evaluates in batches of 4, 4 and 2 rows; the mean loss must not depend on the batch size.
    let got = t.evaluate(&data).unwrap();
    assert!((got.loss - total / divisor).abs() < 1e-6, "{} {}", got.loss, total / divisor);
    let confusion = got.confusion.as_ref().unwrap();
    assert_eq!(confusion.correct() as f64 / 10.0, got.accuracy());
    let all: u64 = (0..9).map(|i| confusion.count(i / 3, i % 3)).sum();
    assert_eq!(all, 10);
}

#[test]
fn predictions_do_not_depend_on_number_of_rows() {
    let data = synthetic("rows", [3], 2, 11, 6).unwrap();
    let t = trainer(linear_model(2), Loss::SoftmaxCrossEntropy, 0.1);
    let all = t.predict(data.features()).unwrap();
    assert_eq!(all.len(), 22);
    for (row, features) in data.features().chunks(3).enumerate() {
        assert_eq!(t.predict(features).unwrap(), all[2 * row..][..2]);
    }
    assert!(t.predict(&[]).unwrap().is_empty());
    assert!(matches!(t.predict(&[0.0; 4]), Err(Error::ShapeMismatch { .. })));
}

#[test]
fn invalid_loss_options_and_data_are_rejected() {
    let make =
        |loss: Loss| Trainer::new(gpu(), linear_model(2), loss, Sgd::new(0.1), TrainerOptions::batch(4));
    let weights = |w: &[f32]| make(Loss::cross_entropy().class_weights(w.to_vec()).into());
    assert!(matches!(weights(&[1.0]), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(weights(&[1.0, -0.5]), Err(Error::InvalidArgument { .. })));
    assert!(matches!(weights(&[1.0, f32::NAN]), Err(Error::InvalidArgument { .. })));
    for smoothing in [-0.1, 1.1, f64::NAN] {
        let loss = Loss::cross_entropy().label_smoothing(smoothing).into();
        assert!(matches!(make(loss), Err(Error::InvalidArgument { .. })), "{smoothing}");
    }
    for loss in [
        Loss::Huber { delta: 0.0 },
        Loss::Huber { delta: f64::NAN },
        Loss::SmoothL1 { beta: -1.0 },
        Loss::SmoothL1 { beta: f64::INFINITY },
        Loss::BinaryCrossEntropy { positive_weight: 0.0 },
    ] {
        let error = make(loss.clone()).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{loss:?}: {error}");
    }
    let images = Model::input([4, 4, 1]).conv2d("conv", 2, [3, 3], |c| c).build().unwrap();
    let of_images =
        Trainer::new(gpu(), images, Loss::SoftCrossEntropy, Sgd::new(0.1), TrainerOptions::batch(4));
    assert!(matches!(of_images, Err(Error::ShapeMismatch { .. })));
    for (loss, allowed, refused) in [
        (Loss::BinaryCrossEntropy { positive_weight: 1.0 }, [0.0, 1.0], vec![1.5, -0.1, f32::NAN]),
        (Loss::SoftCrossEntropy, [0.0, 3.0], vec![-0.1, f32::NAN, f32::INFINITY]),
    ] {
        let mut t = trainer(linear_model(2), loss, 0.1);
        let batch =
            |targets: [f32; 2]| Batch { features: vec![0.5; 3], labels: vec![0], targets: targets.to_vec() };
        t.step(&batch(allowed)).unwrap();
        for target in refused {
            let error = t.step(&batch([0.5, target])).unwrap_err().to_string();
            assert!(error.contains("target 1"), "{error}");
        }
        assert_eq!(t.steps(), 1);
    }
    let mut t = trainer(linear_model(2), Loss::MeanSquaredError, 0.1);
    let labelled = synthetic("labels", [3], 2, 4, 1).unwrap();
    assert!(matches!(t.evaluate(&labelled), Err(Error::ShapeMismatch { .. })));
    let batch = labelled.in_order(4).unwrap().next().unwrap();
    assert!(matches!(t.step(&batch), Err(Error::ShapeMismatch { .. })));
    let mut t = trainer(linear_model(2), Loss::SoftmaxCrossEntropy, 0.1);
    assert!(matches!(t.step(&Batch { targets: vec![0.0; 8], ..batch }), Err(Error::ShapeMismatch { .. })));
    let short = Dataset::regression("r", [3], vec![0.0; 6], [2], vec![0.0; 3]);
    assert!(matches!(short, Err(Error::ShapeMismatch { .. })));
}

/// A class of weight 0 adds nothing to loss and gradient, even where its probability is 0 (a logit of minus
/// infinity), and a batch of only such examples changes nothing.
#[test]
fn class_of_weight_zero_adds_nothing_to_loss_and_gradient() {
    let loss = || Loss::cross_entropy().class_weights(vec![1.0, 0.0, 2.0]);
    let features: Vec<f32> = (0..12).map(|i| i as f32 / 4.0 - 1.0).collect();
    let batch = |labels: &[u32]| {
        let features = features[..3 * labels.len()].to_vec();
        Batch { features, labels: labels.to_vec(), targets: Vec::new() }
    };
    for infinite in [false, true] {
        let make = || {
            let mut t = trainer(linear_model(3), loss(), 0.1);
            if infinite {
                // Frozen, because an update with an infinite result is refused.
                let second = Mask::from_frozen([false, true, false]);
                t.set_and_freeze("fc.bias", &[0.0, f32::NEG_INFINITY, 0.0], &second).unwrap();
            }
            t
        };
        // The mean is over the weights of the first two examples, whatever the third one is.
        let (mut two, mut three) = (make(), make());
        let losses = [two.step_loss(&batch(&[0, 2])).unwrap(), three.step_loss(&batch(&[0, 2, 1])).unwrap()];
        assert!((losses[0] - losses[1]).abs() < 1e-6 && losses[0] > 0.0, "{losses:?}");
        for path in ["fc.kernel", "fc.bias"] {
            for (a, b) in two.parameter(path).unwrap().iter().zip(three.parameter(path).unwrap()) {
                assert!(*a == b || (a - b).abs() < 1e-6, "{path}: {a} {b}");
            }
        }
        let weights = |t: &Trainer| ["fc.kernel", "fc.bias"].map(|path| t.parameter(path).unwrap());
        let before = weights(&three);
        assert_eq!(three.step_loss(&batch(&[1, 1])).unwrap(), 0.0);
        assert_eq!(weights(&three), before);
        let data = Dataset::new("zero", [3], features.clone(), vec![1; 4], 3).unwrap();
        let evaluation = three.evaluate(&data).unwrap();
        assert_eq!((evaluation.loss, evaluation.examples), (0.0, 4));
    }
    let model = || linear_model(3);
    for weights in [vec![0.0; 3], vec![-1.0, 1.0, 1.0], vec![f32::NAN, 1.0, 1.0], vec![1e-40, 1.0, 1.0]] {
        let loss = Loss::cross_entropy().class_weights(weights);
        let refused = Trainer::new(gpu(), model(), loss, Sgd::new(0.1), TrainerOptions::batch(4));
        assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "{refused:?}");
    }
}

/// Examples with the ignored label change nothing: training and evaluation equal those without them, to the
/// bit. The label may be a class or, as 255 in many data sets, none.
#[test]
fn examples_with_the_ignored_label_are_left_out() {
    let rows = synthetic("rows", [3], 3, 12, 4).unwrap();
    for ignored in [255u32, 1] {
        let labels: Vec<u32> = rows
            .labels()
            .iter()
            .enumerate()
            .map(|(i, &l)| if i % 3 == 0 { ignored } else { 2 * (l % 2) })
            .collect();
        let data = Dataset::new("with", [3], rows.features().to_vec(), labels.clone(), 256).unwrap();
        let kept: Vec<usize> = (0..12).filter(|&i| labels[i] != ignored).collect();
        let features = kept.iter().flat_map(|&i| rows.features()[3 * i..3 * i + 3].to_vec()).collect();
        let without =
            Dataset::new("without", [3], features, kept.iter().map(|&i| labels[i]).collect(), 3).unwrap();
        let loss = || Loss::cross_entropy().ignored_label(ignored);
        let mut t = trainer(linear_model(3), loss(), 0.1);
        let mut reference = trainer(linear_model(3), Loss::SoftmaxCrossEntropy, 0.1);
        for batch in data.in_order(4).unwrap() {
            assert_eq!(
                batch.without_label(ignored).rows(),
                batch.rows() - batch.labels.iter().filter(|l| **l == ignored).count()
            );
            let losses = [t.step_loss(&batch), reference.step_loss(&batch.without_label(ignored))];
            let [a, b] = losses.map(|loss| loss.unwrap().to_bits());
            assert_eq!(a, b);
        }
        assert_eq!(t.digest().unwrap(), reference.digest().unwrap());
        let (with, without) = (t.evaluate(&data).unwrap(), reference.evaluate(&without).unwrap());
        assert_eq!((with.examples, with.correct, &with.confusion), (8, without.correct, &without.confusion));
        assert!((with.loss - without.loss).abs() < 1e-6);
        // A batch of only such examples is no step.
        let none = Batch { features: vec![1.0; 6], labels: vec![ignored; 2], targets: Vec::new() };
        let (digest, steps) = (t.digest().unwrap(), t.steps());
        t.step(&none).unwrap();
        assert_eq!(t.step_loss(&none).unwrap(), 0.0);
        assert_eq!((t.digest().unwrap(), t.steps()), (digest, steps));
        // Other labels beyond the classes are errors still.
        let wrong = Batch { labels: vec![7; 2], ..none };
        assert!(matches!(t.step(&wrong), Err(Error::LabelOutOfRange { label: 7, .. })));
    }
}

/// One dispatch computes a loss and its gradient. With class weights, the weights of all labels are added once, and
/// no invocation of the loss loops over the rows.
#[test]
fn one_dispatch_computes_a_loss_and_its_gradient() {
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let launches = |loss: Loss, rows: usize| -> Vec<(&str, usize)> {
        let graph = linear_model(3).training_graph(rows, loss, rule).unwrap().graph;
        let all = Plan::launches(&graph, gpu().report(), &PlanOptions::default()).unwrap();
        let of_loss = all.iter().filter(|launch| launch.kernel.folder == "loss");
        of_loss.map(|launch| (launch.kernel.name, launch.iterations)).collect()
    };
    let kernels = |loss: Loss| launches(loss, 8).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    for loss in [Loss::MeanSquaredError, Loss::L1, Loss::BinaryCrossEntropy { positive_weight: 2.0 }] {
        assert_eq!(kernels(loss), ["element_loss", "metrics"]);
    }
    assert_eq!(kernels(Loss::SoftCrossEntropy), ["soft_cross_entropy", "metrics"]);
    assert_eq!(kernels(Loss::SoftmaxCrossEntropy), ["softmax_cross_entropy", "metrics"]);
    assert_eq!(
        kernels(Loss::cross_entropy().label_smoothing(0.1).into()),
        ["softmax_cross_entropy", "metrics"]
    );
    let weighted = |rows| launches(Loss::cross_entropy().class_weights(vec![1.0, 2.0, 3.0]).into(), rows);
    let [(first, few), (second, loss), (third, _)] = weighted(1_000)[..] else {
        panic!("{:?}", weighted(1_000))
    };
    assert_eq!([first, second, third], ["label_weight_sum", "softmax_cross_entropy", "metrics"]);
    let many = weighted(100_000);
    assert_eq!(many[1].1, loss);
    assert!(many[0].1 > few && many[0].1 < 1_000, "{many:?}");
}
