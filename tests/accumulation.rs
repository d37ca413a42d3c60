//! One update from several batches.

use crate::support::compare::assert_relative;
use crate::support::training::*;
use frazil::{Adam, Batch, Clip, Error, FreezeRule, Optimizer, Sgd, TrainerOptions};

fn options() -> TrainerOptions {
    TrainerOptions::batch(ROWS).seed(3)
}

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}

fn cut(batch: &Batch, at: &[usize]) -> Vec<Batch> {
    let width = batch.features.len() / batch.labels.len();
    let mut parts = Vec::new();
    for pair in at.windows(2) {
        parts.push(Batch {
            features: batch.features[pair[0] * width..pair[1] * width].to_vec(),
            labels: batch.labels[pair[0]..pair[1]].to_vec(),
            targets: Vec::new(),
        });
    }
    parts
}

#[test]
fn several_batches_are_as_one() {
    let clip = Optimizer::from(Adam::new(0.01).weight_decay(0.1)).clip(Clip::norm(0.5));
    for (name, optimizer) in optimizers().into_iter().chain([("adam decay clip", clip)]) {
        let mut whole = trainer(optimizer.clone(), options());
        let mut parts = trainer(optimizer.clone(), options().accumulate(true));
        let mut single = trainer(optimizer, options().accumulate(true));
        for t in [&mut whole, &mut parts, &mut single] {
            t.freeze("*", FreezeRule::random(0.3).seed(2)).unwrap();
        }
        let before = snapshot(&parts);
        for batch in batches(4) {
            whole.step(&batch).unwrap();
            single.step_over(std::slice::from_ref(&batch)).unwrap();
            // Parts of different sizes, where the batch has so many rows.
            parts.step_over(&cut(&batch, &[0, 1, 3, batch.rows()])).unwrap();
        }
        assert!(snapshot(&whole) == snapshot(&single), "{name}: one batch is the same to the bit");
        assert_frozen(name, &parts, &before);
        assert_eq!((parts.steps(), whole.steps()), (4, 4));
        assert_eq!(parts.metrics().unwrap().examples, whole.metrics().unwrap().examples);
        for path in ["conv.kernel", "fc.kernel", "fc.bias"] {
            let (one, all) = (whole.parameter(path).unwrap(), parts.parameter(path).unwrap());
            // Rules that divide by a root blow up the rounding of gradients that are almost 0.
            assert_relative(&format!("{name}: {path}"), &widen(&all), &widen(&one), 2e-4);
        }
    }
}

#[test]
fn accumulation_is_refused_where_it_cannot_be() {
    let batches = batches(2);
    let mut t = trainer(Sgd::new(0.1).into(), options());
    let before = snapshot(&t);
    assert!(matches!(t.step_over(&batches), Err(Error::InvalidArgument { .. })));
    assert!(matches!(t.step_over(&[]), Err(Error::EmptyBatch { .. })));
    let mut t = trainer(Sgd::new(0.1).into(), options().accumulate(true));
    let mut wrong = batches.clone();
    wrong[1].labels[0] = 9;
    assert!(matches!(t.step_over(&wrong), Err(Error::LabelOutOfRange { .. })));
    assert!(snapshot(&t) == before && t.steps() == 0, "nothing was done");
    // A loss that is not finite in any of the batches stops the update.
    let mut bad = batches.clone();
    bad[0].features[0] = f32::NAN;
    t.step_over(&bad).unwrap();
    assert!(snapshot(&t) == before);
    assert!(matches!(t.metrics(), Err(Error::NonFiniteLoss { step: 0 })));
}

#[test]
fn accumulated_gradients_are_read_as_the_mean() {
    let keep = || options().keep_gradients(true);
    let mut whole = trainer(Sgd::new(0.1).into(), keep());
    let mut parts = trainer(Sgd::new(0.1).into(), keep().accumulate(true));
    let batch = batches(1).remove(0);
    whole.step(&batch).unwrap();
    parts.step_over(&cut(&batch, &[0, 2, 6])).unwrap();
    for path in ["conv.kernel", "conv.bias", "fc.kernel", "fc.bias"] {
        let (one, all) = (widen(&whole.gradient(path).unwrap()), widen(&parts.gradient(path).unwrap()));
        assert_relative(path, &all, &one, 1e-6);
    }
}
