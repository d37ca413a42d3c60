//! Steps with a loss that the host computes.

use crate::support::compare::share_of_largest;
use crate::support::device::gpu;
use crate::support::skip;
use frazil::data::synthetic;
use frazil::optimizer::Optimizer;
use frazil::{Adam, Batch, Error, FreezeRule, Loss, Model, Sgd, Trainer, TrainerOptions};

/// A model with everything that differs between training and evaluation.
fn model() -> Model {
    let image = Model::input([4, 4, 2]).conv2d("conv", 6, [3, 3], |c| c).batch_norm("bn").relu();
    image.flatten().dropout(0.3).dense("fc1", 8).tanh().dense("fc2", 3).build().unwrap()
}

fn trainer(loss: Loss, optimizer: impl Into<Optimizer>) -> Trainer {
    Trainer::new(gpu(), model(), loss, optimizer, TrainerOptions::batch(6).seed(9)).unwrap()
}

fn batches() -> Vec<Batch> {
    let data = synthetic("images", [4, 4, 2], 3, 40, 3).unwrap();
    let of = |batch: Batch| {
        let targets = (0..3 * batch.labels.len()).map(|i| (i as f32 * 0.7).sin()).collect();
        Batch { targets, ..batch }
    };
    data.in_order(6).unwrap().map(of).collect()
}

/// The mean squared error and its gradient, in the order of operations of the device.
fn squared(targets: &[f32], outputs: &[f32], gradient: &mut [f32]) -> f32 {
    let count = outputs.len() as f32;
    let mut sum = 0.0;
    for ((output, target), gradient) in outputs.iter().zip(targets).zip(gradient) {
        sum += (output - target).powi(2);
        *gradient = 2.0 * (output - target) / count;
    }
    sum / count
}

/// A mean squared error on the host trains the same bits as that of the device: the same dropout, the same statistics,
/// also of a short batch, and also with frozen elements.
#[test]
fn custom_loss_trains_the_bits_of_the_same_loss_on_the_device() {
    for optimizer in [Optimizer::from(Sgd::new(0.1).momentum(0.9)), Adam::new(0.01).into()] {
        let mut own = trainer(Loss::Custom, optimizer.clone());
        let mut device = trainer(Loss::MeanSquaredError, optimizer);
        for t in [&mut own, &mut device] {
            t.freeze("*.kernel", FreezeRule::random(0.4)).unwrap();
            t.freeze("fc1.bias", FreezeRule::all()).unwrap();
        }
        let frozen = own.parameters().unwrap();
        let mut sum = 0.0;
        for batch in batches() {
            let loss = own
                .step_with(&batch, |outputs, gradient| Ok(squared(&batch.targets, outputs, gradient)))
                .unwrap();
            let wanted = device.step_loss(&batch).unwrap();
            assert!((loss - wanted).abs() <= 1e-6 * wanted, "{loss} {wanted}");
            sum += f64::from(loss) * batch.labels.len() as f64;
        }
        assert_eq!(own.steps(), device.steps());
        // The host computes each operation of the gradient separately; a hardware driver may contract two of them.
        let software = gpu().report().software;
        for ((path, own), (_, device)) in own.parameters().unwrap().iter().zip(device.parameters().unwrap()) {
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            if bits(own) != bits(&device) {
                let error = share_of_largest(own, &device);
                assert!(!software && error <= 1e-3, "{path}: {error:e}");
            }
        }
        if !software {
            skip("custom loss: bits of the same loss on the device", "hardware drivers may contract a*b+c");
        }
        let metrics = own.metrics().unwrap();
        assert_eq!((metrics.examples, metrics.correct), (40, None));
        assert!((metrics.loss - sum / 40.0).abs() < 1e-6, "{metrics:?} {sum}");
        assert_eq!(own.verify_frozen().unwrap().changed(), 0);
        for ((path, before), (_, after)) in frozen.iter().zip(own.parameters().unwrap()) {
            let Ok(mask) = own.mask(path) else { continue };
            for (index, (before, after)) in before.iter().zip(&after).enumerate() {
                if mask.is_frozen(index) {
                    assert_eq!(before.to_bits(), after.to_bits(), "{path} {index}");
                }
            }
        }
    }
}

#[test]
fn errors_of_a_custom_loss_change_nothing() {
    let mut t = trainer(Loss::Custom, Adam::new(0.01));
    let batch = &batches()[0];
    let state = |t: &Trainer| (t.parameters().unwrap(), t.steps());
    let step = |t: &mut Trainer| {
        t.step_with(batch, |outputs, gradient| Ok(squared(&batch.targets, outputs, gradient))).unwrap()
    };
    step(&mut t);
    let before = state(&t);
    let refused = |result: frazil::Result<f32>, parts: &[&str]| {
        let message = result.unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    let own = || Error::Checkpoint { path: "loss".into(), why: "the host has no loss".into(), source: None };
    refused(t.step_with(batch, |_, _| Err(own())), &["the host has no loss"]);
    refused(t.step_with(batch, |_, _| Ok(f32::NAN)), &["finite loss", "NaN"]);
    let nan = |_: &[f32], gradient: &mut [f32]| {
        gradient[4] = f32::INFINITY;
        Ok(0.0)
    };
    refused(t.step_with(batch, nan), &["gradient 4", "finite", "inf"]);
    let short = Batch { features: vec![0.0; 5], labels: vec![0], ..Batch::default() };
    refused(t.step_with(&short, |_, _| Ok(0.0)), &["features"]);
    refused(t.step_with(&Batch::default(), |_, _| Ok(0.0)), &["1 example"]);
    refused(t.step(batch).map(|()| 0.0), &["step_with"]);
    let data = synthetic("images", [4, 4, 2], 3, 4, 3).unwrap();
    refused(t.evaluate(&data).map(|_| 0.0), &["Trainer::predict"]);
    assert_eq!(state(&t), before);
    // The random numbers of refused steps are drawn again: another trainer without them has the same weights.
    step(&mut t);
    let mut other = trainer(Loss::Custom, Adam::new(0.01));
    for _ in 0..2 {
        step(&mut other);
    }
    assert_eq!(state(&t), state(&other));

    let mut device = trainer(Loss::MeanSquaredError, Adam::new(0.01));
    refused(device.step_with(batch, |_, _| Ok(0.0)), &["Loss::Custom", "MeanSquaredError"]);
}

/// Without a parameter that trains, the step changes nothing.
#[test]
fn custom_loss_of_a_frozen_model_trains_nothing() {
    let mut t = trainer(Loss::Custom, Sgd::new(0.1));
    t.freeze("*", FreezeRule::all()).unwrap();
    t.freeze_statistics("bn").unwrap();
    let (batch, before) = (&batches()[0], t.parameters().unwrap());
    let loss = t.step_with(batch, |_, gradient| {
        gradient.fill(1.0);
        Ok(2.5)
    });
    assert_eq!(loss.unwrap(), 2.5);
    assert_eq!(t.parameters().unwrap(), before);
    assert_eq!(t.metrics().unwrap().loss, 2.5);
    let features = &batch.features[..64];
    assert_eq!(t.predict(features).unwrap().len(), 6);
}
