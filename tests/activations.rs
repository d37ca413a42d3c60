//! Outputs of layers and gradients of inputs, compared with the f64 reference on the trainer's weights.

use crate::support::compare::{assert_relative, widen};
use crate::support::device::gpu;
use crate::support::executor::{Executor, reference};
use frazil::data::synthetic;
use frazil::low_level::{ParameterId, StepScalars, ValueId};
use frazil::{Batch, Error, Loss, Model, Padding::Same, Sgd, Trainer, TrainerOptions};

/// A network with layers that differ between training and evaluation, and a value with two uses.
fn model() -> Model {
    Model::input([6, 6, 2])
        .conv2d("conv1", 5, [3, 3], |c| c.padding(Same))
        .batch_norm("bn1")
        .relu()
        .residual("block", |m| m.conv2d("conv2", 5, [3, 3], |c| c.padding(Same)).silu(), |s| s)
        .max_pool2d([2, 2])
        .flatten()
        .dropout(0.5)
        .dense("fc", 3)
        .build()
        .unwrap()
}

fn trained(loss: impl Into<Loss>) -> Trainer {
    let options = TrainerOptions::batch(4).seed(6);
    let mut trainer = Trainer::new(gpu(), model(), loss, Sgd::new(0.05), options).unwrap();
    let data = synthetic("activations", [6, 6, 2], 3, 12, 2).unwrap();
    for batch in data.in_order(4).unwrap() {
        // Zeros are not read by losses of labels.
        let targets = if trainer.loss().has_labels() { Vec::new() } else { vec![0.1; batch.rows() * 3] };
        trainer.step(&Batch { targets, ..batch }).unwrap();
    }
    trainer
}

/// The evaluation graph with this trainer's weights in the reference, run on a batch, and the value of the gradient
/// of the input.
fn evaluated(trainer: &Trainer, batch: &Batch) -> (Box<dyn Executor>, frazil::low_level::Graph, ValueId) {
    let mut built = trainer.model().evaluation_graph(batch.rows(), trainer.loss().clone()).unwrap();
    let gradient = built.graph.backward(built.mean_loss, &[built.input]).unwrap()[0];
    let mut executor = reference(&built.graph);
    for (index, parameter) in trainer.model().parameters().iter().enumerate() {
        let value = built.graph.parameter_value(ParameterId::of(index)).unwrap();
        executor.write(value, &widen(&trainer.parameter(&parameter.path).unwrap())).unwrap();
    }
    executor.write(built.input, &widen(&batch.features)).unwrap();
    let labels: Vec<_> = match trainer.loss().has_labels() {
        true => batch.labels.iter().map(|&label| f64::from(label)).collect(),
        false => widen(&batch.targets),
    };
    executor.write(built.labels, &labels).unwrap();
    if let Some((input, weights)) = &built.class_weights {
        executor.write(*input, &widen(weights)).unwrap();
    }
    executor.run(StepScalars::forward(batch.rows())).unwrap();
    (executor, built.graph, gradient)
}

fn batch(rows: usize) -> Batch {
    synthetic("activations", [6, 6, 2], 3, rows, 9).unwrap().in_order(rows).unwrap().next().unwrap()
}

#[test]
fn activations_of_all_layers_match_the_reference() {
    let trainer = trained(Loss::SoftmaxCrossEntropy);
    // More rows than the batch of the trainer, and a last batch with fewer.
    let batch = batch(7);
    let (mut executor, graph, _) = evaluated(&trainer, &batch);
    let digest = trainer.digest().unwrap();
    for named in trainer.model().layers() {
        let got = trainer.activations(named.name(), &batch).unwrap();
        // A bias is an operation of its own behind the layer's; dropout is none in evaluation.
        let labels = [named.name().to_owned(), format!("{} bias", named.name())];
        let node = graph.nodes().iter().rfind(|node| labels.contains(&node.label));
        let Some(node) = node else {
            assert!(named.name().starts_with("dropout"), "{}", named.name());
            continue;
        };
        assert_eq!(got.len(), 7 * named.output().iter().product::<usize>(), "{}", named.name());
        assert_relative(named.name(), &widen(&got), &executor.read(node.outputs[0]), 1e-5);
        assert_eq!(got, trainer.activations(named.name(), &batch).unwrap(), "{}", named.name());
    }
    let logits = trainer.activations("fc", &batch).unwrap();
    assert_eq!(logits, trainer.predict(&batch.features).unwrap());
    assert!(trainer.activations("fc", &Batch::default()).unwrap().is_empty());
    assert_eq!(trainer.digest().unwrap(), digest);
}

#[test]
fn input_gradients_match_the_reference() {
    let weighted = Loss::cross_entropy().label_smoothing(0.1).class_weights(vec![1.0, 0.5, 2.0]);
    for loss in [Loss::SoftmaxCrossEntropy, weighted.into(), Loss::MeanSquaredError] {
        let trainer = trained(loss.clone());
        for rows in [1, 3, 4] {
            let mut batch = batch(rows);
            if !loss.has_labels() {
                batch.targets = (0..rows * 3).map(|i| (i as f32).sin()).collect();
            }
            let (mut executor, _, gradient) = evaluated(&trainer, &batch);
            let got = trainer.input_gradient(&batch).unwrap();
            let what = format!("{loss:?}, {rows} rows");
            assert_relative(&what, &widen(&got), &executor.read(gradient), 1e-4);
            assert!(got.iter().any(|x| *x != 0.0), "{what}");
        }
    }
}

#[test]
fn examples_with_the_ignored_label_have_no_gradient() {
    let trainer = trained(Loss::cross_entropy().ignored_label(9));
    let mut all = batch(4);
    all.labels[1] = 9;
    let kept = all.without_label(9);
    let (got, expected) = (trainer.input_gradient(&all).unwrap(), trainer.input_gradient(&kept).unwrap());
    assert_eq!(got[..72], expected[..72]);
    assert!(got[72..144].iter().all(|x| *x == 0.0));
    assert_eq!(got[144..], expected[72..]);
    all.labels = vec![9; 4];
    assert_eq!(trainer.input_gradient(&all).unwrap(), vec![0.0; 288]);
}

#[test]
fn several_threads_inspect_one_trainer() {
    let trainer = trained(Loss::SoftmaxCrossEntropy);
    let batch = batch(4);
    let all = || {
        (
            trainer.activations("conv1", &batch).unwrap(),
            trainer.input_gradient(&batch).unwrap(),
            trainer.predict(&batch.features).unwrap(),
        )
    };
    let expected = all();
    std::thread::scope(|scope| {
        let threads = [(); 3].map(|()| scope.spawn(all));
        threads.into_iter().for_each(|thread| assert!(thread.join().unwrap() == expected));
    });
}

#[test]
fn other_layers_and_batches_are_named_errors() {
    let trainer = trained(Loss::SoftmaxCrossEntropy);
    let error = trainer.activations("conv9", &batch(2)).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::InvalidArgument { .. }), "{text}");
    assert!(["conv9", "conv1", "most similar"].iter().all(|part| text.contains(part)), "{text}");
    let short = Batch { features: vec![0.0; 71], ..batch(1) };
    assert!(matches!(trainer.activations("fc", &short), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(trainer.input_gradient(&short), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(trainer.input_gradient(&Batch::default()), Err(Error::EmptyBatch { .. })));
    let error = trainer.input_gradient(&batch(5)).unwrap_err().to_string();
    assert!(error.contains("at most 4 rows"), "{error}");
    let label = Batch { labels: vec![3], ..batch(1) };
    assert!(matches!(trainer.input_gradient(&label), Err(Error::LabelOutOfRange { label: 3, .. })));
}
