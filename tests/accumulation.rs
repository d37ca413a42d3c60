//! Tests of gradient accumulation: one update from the gradients of several batches.

use crate::support::compare::{assert_relative, widen};
use crate::support::device::gpu;
use crate::support::random::stream;
use crate::support::training::*;
use frazil::low_level::ParameterId;
use frazil::low_level::Reference;
use frazil::low_level::Stream;
use frazil::model::Updates;
use frazil::{Adam, Batch, Clip, Error, FreezeRule, Loss, Optimizer, Sgd, Trainer, TrainerOptions};

fn options() -> TrainerOptions {
    TrainerOptions::batch(ROWS).seed(3)
}

/// Splits a batch into parts at the row indices `at`: rows `at[0]..at[1]`, `at[1]..at[2]`, and so on.
fn split(batch: &Batch, at: &[usize]) -> Vec<Batch> {
    let rows = batch.rows();
    let part = |all: &[f32], first: usize, end: usize| {
        let width = all.len() / rows;
        all[first * width..end * width].to_vec()
    };
    at.windows(2)
        .map(|pair| Batch {
            features: part(&batch.features, pair[0], pair[1]),
            labels: batch.labels[pair[0]..pair[1]].to_vec(),
            targets: part(&batch.targets, pair[0], pair[1]),
        })
        .collect()
}

fn rules() -> Vec<(&'static str, Optimizer)> {
    let clip = Optimizer::from(Adam::new(0.01).weight_decay(0.1)).clip(Clip::norm(0.5));
    optimizers().into_iter().chain([("adam decay clip", clip)]).collect()
}

/// Row indices that split a batch of 8 rows into parts of 1, 2, 1 and 4 rows. Each part's fraction of the
/// batch, such as 1/8, is exact in f32.
const PARTS: [usize; 5] = [0, 1, 3, 4, 8];

/// Runs one update on the CPU reference, with gradients accumulated over `parts`, which together have up to 8
/// rows.
fn reference_step(
    r: &mut Reference,
    model: &frazil::model::ModelGraph,
    rule: &Optimizer,
    t: u64,
    parts: &[Batch],
) {
    let total: usize = parts.iter().map(Batch::rows).sum();
    for (number, part) in parts.iter().enumerate() {
        // The graph's batch size is 8; the rows after those of the part contain NaN, so that the test fails
        // if they are read.
        let mut features = widen(&part.features);
        features.resize(8 * 50, f64::NAN);
        let mut labels: Vec<f64> = part.labels.iter().copied().map(f64::from).collect();
        labels.resize(8, 0.0);
        r.write(model.input, &features).unwrap();
        r.write(model.labels, &labels).unwrap();
        let mut scalars = rule.scalars(t, part.rows());
        scalars.share = part.rows() as f32 / total as f32;
        scalars.first = (number == 0).into();
        scalars.last = (number + 1 == parts.len()).into();
        r.run(scalars).unwrap();
    }
}

/// On the CPU reference, an update accumulated over several batches differs from the update from one batch
/// only by f64 rounding.
#[test]
fn reference_update_from_several_batches_equals_that_from_one() {
    let data: Vec<_> = data().batches(8, 5).unwrap().collect();
    for (name, rule) in rules() {
        let run = |at: &[usize]| {
            let updates = Updates::new(&model(), &rule, true).unwrap();
            let graph = model().training_graph(8, Loss::SoftmaxCrossEntropy, updates).unwrap();
            let mut r = Reference::new(&graph.graph).unwrap();
            let mut draw = stream(7);
            let parameters = graph.graph.parameters();
            for (index, parameter) in parameters.iter().enumerate() {
                let (id, len) = (ParameterId::of(index), parameter.shape.elements());
                let values: Vec<_> = (0..len).map(|_| 0.2 * f64::from(draw.normal())).collect();
                r.write(graph.graph.parameter_value(id).unwrap(), &values).unwrap();
                let mask = FreezeRule::random(0.3).seed(2).resolve(&parameter.path, len).unwrap();
                r.set_mask(id, &mask).unwrap();
            }
            for (t, batch) in data.iter().enumerate() {
                reference_step(&mut r, &graph, &rule, t as u64, &split(batch, at));
            }
            let mut all = Vec::new();
            for index in 0..parameters.len() {
                let id = ParameterId::of(index);
                all.push(r.read(graph.graph.parameter_value(id).unwrap()).to_vec());
                all.extend((0..rule.rule().slots().len()).map(|slot| r.state(id, slot).to_vec()));
            }
            all
        };
        let (one, several, fewer) = (run(&[0, 8]), run(&PARTS), run(&[0, 7]));
        for (number, (got, want)) in several.iter().zip(&one).enumerate() {
            assert_relative(&format!("{name}: tensor {number}"), got, want, 1e-12);
        }
        assert!(fewer[0] != one[0], "{name}: 7 rows give the same as 8");
    }
}

/// Random weights, features and targets from {-1, 0, 1}. The numbers of rows and outputs are powers of two,
/// so every sum, including those of gradients, is exact in any order and the results can be compared bit for
/// bit.
struct Exact {
    draw: Stream,
}

impl Exact {
    fn new() -> Self {
        Exact { draw: stream(3) }
    }

    fn integers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.draw.below(3) as f32 - 1.0).collect()
    }

    fn batch(&mut self) -> Batch {
        Batch { features: self.integers(8 * 50), labels: vec![0; 8], targets: self.integers(8 * 4) }
    }

    /// Draws new weights and sets them in all trainers.
    fn set_weights(&mut self, trainers: &mut [Trainer]) {
        for (path, len) in PARAMETERS {
            let values = self.integers(len);
            trainers.iter_mut().for_each(|t| t.set_parameter(path, &values).unwrap());
        }
    }

    /// Creates a trainer whose gradients can be read after a step.
    fn trainer(optimizer: &Optimizer, accumulate: bool) -> Trainer {
        let options = TrainerOptions::batch(8).accumulate(accumulate).keep_gradients(true);
        Trainer::new(gpu(), model(), Loss::MeanSquaredError, optimizer.clone(), options).unwrap()
    }
}

const PARAMETERS: [(&str, usize); 4] =
    [("conv.kernel", 90), ("conv.bias", 5), ("fc.kernel", 500), ("fc.bias", 4)];

fn gradients(t: &Trainer) -> Vec<Vec<u32>> {
    let read = |(path, _)| t.gradient(path).unwrap().into_iter().map(f32::to_bits).collect();
    PARAMETERS.map(read).to_vec()
}

#[test]
fn device_update_from_several_batches_equals_that_from_one_where_sums_are_exact() {
    let mut exact = Exact::new();
    for (name, optimizer) in rules() {
        let mut all = [false, true, true].map(|accumulate| Exact::trainer(&optimizer, accumulate));
        for update in 0..3 {
            // The trainers keep their optimizer state between updates, but get new weights from {-1, 0, 1},
            // because updated weights are not integers and their sums would not be exact.
            exact.set_weights(&mut all);
            let batch = exact.batch();
            let parts = split(&batch, &PARTS);
            for t in &mut all {
                t.freeze("*", FreezeRule::random(0.3).seed(2)).unwrap();
            }
            let [one, several, fewer] = &mut all;
            one.step(&batch).unwrap();
            several.step_over(&parts).unwrap();
            fewer.step_over(&parts[..3]).unwrap();
            assert!(snapshot(several) == snapshot(one), "{name}, update {update}");
            assert!(snapshot(fewer) != snapshot(one), "{name}, update {update}: 3 parts give the same as 4");
        }
    }
}

#[test]
fn accumulated_gradients_read_as_the_mean_over_all_examples() {
    let mut exact = Exact::new();
    let mut all = [false, true, true].map(|accumulate| Exact::trainer(&Sgd::new(0.1).into(), accumulate));
    exact.set_weights(&mut all);
    let batch = exact.batch();
    let parts = split(&batch, &PARTS);
    let [one, several, fewer] = &mut all;
    one.step(&batch).unwrap();
    several.step_over(&parts).unwrap();
    fewer.step_over(&parts[1..]).unwrap();
    assert_eq!(gradients(several), gradients(one));
    assert_ne!(gradients(fewer), gradients(one));
}

#[test]
fn accumulation_keeps_frozen_elements_and_counts_every_example() {
    for (name, optimizer) in rules() {
        let mut plain = trainer(optimizer.clone(), options());
        let mut parts = trainer(optimizer.clone(), options().accumulate(true));
        let mut single = trainer(optimizer, options().accumulate(true));
        for t in [&mut plain, &mut parts, &mut single] {
            t.freeze("*", FreezeRule::random(0.3).seed(2)).unwrap();
        }
        let before = snapshot(&parts);
        for batch in batches(4) {
            plain.step(&batch).unwrap();
            single.step_over(std::slice::from_ref(&batch)).unwrap();
            parts.step_over(&split(&batch, &[0, 1, 3, batch.rows()])).unwrap();
        }
        assert!(snapshot(&plain) == snapshot(&single), "{name}: accumulation over one batch changes bits");
        assert_frozen(name, &parts, &before);
        let (moved, trainable) = moved(&parts, &before);
        assert!(moved * 10 > trainable * 9, "{name}: {moved} of {trainable} changed");
        assert_eq!((parts.steps(), plain.steps()), (4, 4));
        assert_eq!(parts.metrics().unwrap().examples, plain.metrics().unwrap().examples);
    }
}

#[test]
fn accumulation_rejects_missing_option_and_invalid_batches() {
    let batches = batches(2);
    let mut t = trainer(Sgd::new(0.1).into(), options());
    let before = snapshot(&t);
    assert!(matches!(t.step_over(&batches), Err(Error::InvalidArgument { .. })));
    assert!(matches!(t.step_over(&[]), Err(Error::EmptyBatch { .. })));
    let mut t = trainer(Sgd::new(0.1).into(), options().accumulate(true));
    let mut wrong = batches.clone();
    wrong[1].labels[0] = 9;
    assert!(matches!(t.step_over(&wrong), Err(Error::LabelOutOfRange { .. })));
    assert!(
        snapshot(&t) == before && t.steps() == 0,
        "a rejected call changed weights, state or the step count"
    );
    // A non-finite loss in one of the accumulated batches skips the whole update.
    let mut bad = batches.clone();
    bad[0].features[0] = f32::NAN;
    t.step_over(&bad).unwrap();
    assert!(snapshot(&t) == before);
    assert!(matches!(t.metrics(), Err(Error::NonFiniteLoss { step: 0 })));
}
