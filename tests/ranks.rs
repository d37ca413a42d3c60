//! Tests training on several ranks, as threads that share a device: the bits of one rank that accumulates the same
//! batches, what is exchanged, and what happens if ranks differ or fail.

use crate::support::device::gpu;
use crate::support::skip;
use crate::support::training::{ROWS, batches, check_frozen, model, optimizers, snapshot};
use frazil::data::Loader;
use frazil::ranks::{Ranks, ThreadRanks, threads};
use frazil::{
    Adam, Batch, Clip, Dataset, Error, FreezeRule, Loss, LrSchedule, Model, Optimizer, Padding::Same, Result,
    Sgd, Trainer, TrainerOptions,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn trainer(model: Model, optimizer: Optimizer) -> Trainer {
    let options = TrainerOptions::batch(ROWS).seed(3).accumulate(true);
    Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, optimizer, options).unwrap()
}

/// Calls `each` on a thread for each rank, and returns the results in the order of the ranks.
fn on_all<T: Send>(count: usize, each: impl Fn(&ThreadRanks) -> T + Sync) -> Vec<T> {
    let ranks = threads(count, Duration::from_secs(60));
    std::thread::scope(|scope| {
        let spawned: Vec<_> = ranks.iter().map(|own| scope.spawn(|| each(own))).collect();
        spawned.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Trains `steps` steps, in each of which rank `r` of `count` has one batch; returns the digests of all ranks, and of
/// one rank that accumulates the batches of all.
fn digests(
    count: usize,
    steps: usize,
    make: impl Fn() -> Trainer + Sync,
    each_step: impl Fn(&mut Trainer, usize) + Sync,
) -> (Vec<u64>, u64) {
    let all = batches(count * steps);
    let several = on_all(count, |ranks| {
        let mut t = make();
        t.check_ranks(ranks).unwrap();
        for step in 0..steps {
            each_step(&mut t, step);
            let own = &all[step * count + ranks.rank()];
            t.step_on(ranks, std::slice::from_ref(own)).unwrap();
        }
        t.check_ranks(ranks).unwrap();
        assert_eq!(t.verify_frozen().unwrap().changed(), 0);
        t.digest().unwrap()
    });
    let mut one = make();
    for step in 0..steps {
        each_step(&mut one, step);
        one.step_over(&all[step * count..][..count]).unwrap();
    }
    (several, one.digest().unwrap())
}

/// Whether the adapter's compiler keeps the product and the sum of gradient accumulation apart, as software adapters
/// do: only then have both the same bits.
fn keeps_bits() -> bool {
    gpu().report().software
}

fn assert_digests(what: &str, (several, one): (Vec<u64>, u64)) {
    assert!(several.iter().all(|digest| *digest == several[0]), "{what}: ranks differ: {several:x?}");
    if keeps_bits() {
        assert_eq!(several[0], one, "{what}: not the bits of accumulation on one rank");
    } else {
        skip(&format!("ranks: bits of accumulation, {what}"), "the adapter may contract a product and a sum");
    }
}

#[test]
fn every_optimizer_has_the_bits_of_accumulation_on_one_rank() {
    for (number, (name, optimizer)) in optimizers().into_iter().enumerate() {
        let make = || {
            let mut t = trainer(model(), optimizer.clone());
            t.freeze("*.kernel", FreezeRule::random([0.0, 0.5, 0.9, 0.99][number % 4])).unwrap();
            t
        };
        assert_digests(name, digests(2 + number % 2, 4, make, |_, _| {}));
    }
}

#[test]
fn masks_and_schedules_change_on_all_ranks() {
    let schedule = LrSchedule::cosine(6).warm_up(2);
    let optimizer = Optimizer::from(Sgd::new(0.05).momentum(0.9)).clip(Clip::norm(0.5)).schedule(schedule);
    let change = |t: &mut Trainer, step: usize| {
        if step == 2 {
            t.prune("fc.kernel", FreezeRule::smallest(0.6)).unwrap();
        }
        if step == 4 {
            t.freeze("conv.kernel", FreezeRule::filters(0.5)).unwrap();
        }
    };
    assert_digests("masks", digests(3, 6, || trainer(model(), optimizer.clone()), change));
}

#[test]
fn dropout_draws_the_numbers_of_accumulation() {
    let net = || {
        let net = Model::input([5, 5, 2]).conv2d("conv", 5, [3, 3], |c| c.padding(Same)).relu().dropout(0.3);
        net.flatten().dense("fc", 4).build().unwrap()
    };
    assert_digests("dropout", digests(3, 4, || trainer(net(), Adam::new(0.01).into()), |_, _| {}));
}

/// Ranks that count what they send, and how often.
struct Counted<'a> {
    inner: &'a ThreadRanks,
    floats: &'a AtomicUsize,
    exchanges: &'a AtomicUsize,
}

impl Ranks for Counted<'_> {
    fn rank(&self) -> usize {
        self.inner.rank()
    }
    fn count(&self) -> usize {
        self.inner.count()
    }
    fn all_to_all(&self, values: &[f32], lengths: &[usize]) -> Result<Vec<f32>> {
        self.floats.fetch_add(values.len(), Ordering::Relaxed);
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        self.inner.all_to_all(values, lengths)
    }
    fn all_gather(&self, part: &[f32], lengths: &[usize]) -> Result<Vec<f32>> {
        self.inner.all_gather(part, lengths)
    }
    fn all_gather_words(&self, words: &[u64]) -> Result<Vec<Vec<u64>>> {
        self.inner.all_gather_words(words)
    }
}

#[test]
fn only_gradients_of_trainable_elements_travel() {
    let data = batches(2);
    for fraction in [0.0, 0.5, 0.9, 0.99, 1.0] {
        let (sent, exchanges) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let trainable = on_all(2, |inner| {
            let ranks = Counted { inner, floats: &sent, exchanges: &exchanges };
            let mut t = trainer(model(), Sgd::new(0.05).into());
            t.freeze("*.kernel", FreezeRule::random(fraction)).unwrap();
            let before = snapshot(&t);
            t.step_on(&ranks, &data[inner.rank()..=inner.rank()]).unwrap();
            check_frozen(&t, &before, &snapshot(&t)).unwrap();
            let all: usize = t.model().parameters().iter().map(|p| p.shape.elements()).sum();
            all - t.frozen_count()
        });
        // And whether the loss is finite.
        assert_eq!(sent.into_inner(), 2 * (trainable[0] + 1), "{fraction}");
        assert_eq!(exchanges.into_inner(), 2, "{fraction}");
    }
}

#[test]
fn gradients_of_large_networks_travel_in_parts_with_the_same_bits() {
    let net = || {
        let net = Model::input([5, 5, 2]).conv2d("conv", 5, [3, 3], |c| c.padding(Same));
        let net = net.flatten().dense("fc1", 2200).relu().dense("fc2", 520).relu();
        net.dense("fc3", 4).build().unwrap()
    };
    let make = || {
        let mut t = trainer(net(), Adam::new(0.01).into());
        t.freeze("fc1.kernel", FreezeRule::random(0.5)).unwrap();
        t
    };
    // From the output on: fc3 and fc2, 1.1 million; fc1, 138 thousand, and the convolution.
    let order: Vec<_> = make().report().dispatches.iter().map(|used| used.kernel).collect();
    let last_gradient =
        order.iter().rposition(|kernel| kernel.starts_with("conv") || kernel.starts_with("gemm"));
    let sums: Vec<_> = (0..order.len()).filter(|&index| order[index] == "accumulate").collect();
    assert_eq!(sums.len(), 8, "{order:?}");
    assert!(Some(sums[0]) < last_gradient, "each sum follows its gradient: {order:?}");

    assert_digests("parts", digests(3, 3, make, |_, _| {}));

    let data = batches(10);
    let (sent, exchanges) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results = on_all(3, |inner| {
        let ranks = Counted { inner, floats: &sent, exchanges: &exchanges };
        let mut t = make();
        // Two batches on each rank; then the last rank has none.
        t.step_on(&ranks, &data[2 * inner.rank()..][..2]).unwrap();
        let rest = [&data[6..8], &data[8..10], &[]];
        t.step_on(&ranks, rest[inner.rank()]).unwrap();
        t.check_ranks(inner).unwrap();
        assert_eq!(t.verify_frozen().unwrap().changed(), 0);
        t.digest().unwrap()
    });
    assert_eq!(exchanges.into_inner(), 3 * 2 * 2);
    assert!(results.iter().all(|digest| *digest == results[0]), "{results:x?}");
}

#[test]
fn ranks_without_batches_and_short_batches_count_their_examples() {
    let data = batches(4);
    let mut short = data[1].clone();
    short.labels.truncate(2);
    short.features.truncate(2 * 50);
    let parts: [&[Batch]; 3] = [&data[..1], &[short.clone()], &[]];
    let results = on_all(3, |ranks| {
        let mut t = trainer(model(), Sgd::new(0.05).momentum(0.9).into());
        t.step_on(ranks, parts[ranks.rank()]).unwrap();
        let more = if ranks.rank() == 2 { &data[2..4] } else { &[] };
        t.step_on(ranks, more).unwrap();
        let metrics = t.metrics_on(ranks).unwrap();
        (t.digest().unwrap(), metrics, t.steps())
    });
    let mut one = trainer(model(), Sgd::new(0.05).momentum(0.9).into());
    one.step_over(&[data[0].clone(), short]).unwrap();
    one.step_over(&data[2..4]).unwrap();
    let metrics = one.metrics().unwrap();
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    if keeps_bits() {
        assert_eq!(results[0].0, one.digest().unwrap());
    }
    assert_eq!((results[0].1.examples, results[0].1.correct), (metrics.examples, metrics.correct));
    assert!((results[0].1.loss - metrics.loss).abs() < 1e-5);
    assert_eq!(results[0].2, 2);
    let none = on_all(2, |ranks| trainer(model(), Sgd::new(0.05).into()).step_on(ranks, &[]));
    assert!(none.iter().all(|result| matches!(result, Err(Error::EmptyBatch { .. }))), "{none:?}");
}

#[test]
fn running_statistics_are_the_mean_of_the_ranks() {
    let net = || {
        let net =
            Model::input([5, 5, 2]).conv2d("conv", 5, [3, 3], |c| c.padding(Same)).batch_norm("bn").relu();
        net.flatten().dense("fc", 4).build().unwrap()
    };
    let data = batches(2);
    let path = "bn.running_mean";
    let all = on_all(2, |ranks| {
        let mut t = trainer(net(), Sgd::new(0.05).into());
        t.step_on(ranks, &data[ranks.rank()..=ranks.rank()]).unwrap();
        t.check_ranks(ranks).unwrap();
        t.parameter(path).unwrap()
    });
    let alone = |batch: &Batch| {
        let mut t = trainer(net(), Sgd::new(0.05).into());
        t.step(batch).unwrap();
        t.parameter(path).unwrap()
    };
    let (a, b) = (alone(&data[0]), alone(&data[1]));
    for (index, mean) in all[0].iter().enumerate() {
        assert!((mean - 0.5 * (a[index] + b[index])).abs() <= 1e-6, "{index}");
    }
    assert_eq!(all[0], all[1]);
}

#[test]
fn a_loss_that_is_not_finite_on_one_rank_stops_all() {
    let data = batches(2);
    let mut bad = data[1].clone();
    bad.features[3] = f32::NAN;
    let results = on_all(2, |ranks| {
        let mut t = trainer(model(), Sgd::new(0.05).momentum(0.9).into());
        let before = snapshot(&t);
        let own = if ranks.rank() == 1 { &bad } else { &data[0] };
        t.step_on(ranks, std::slice::from_ref(own)).unwrap();
        check_frozen(&t, &before, &snapshot(&t)).unwrap();
        assert_eq!(
            t.parameter("fc.kernel").unwrap(),
            trainer(model(), Sgd::new(0.05).into()).parameter("fc.kernel").unwrap()
        );
        t.metrics_on(ranks).unwrap_err().to_string()
    });
    assert!(results.iter().all(|error| error.contains("step 0")), "{results:?}");
}

#[test]
fn invalid_batches_of_one_rank_are_errors_on_all() {
    let data = batches(2);
    let mut bad = data[1].clone();
    bad.labels[0] = 9;
    let results = on_all(2, |ranks| {
        let mut t = trainer(model(), Sgd::new(0.05).into());
        let digest = t.digest().unwrap();
        let own = if ranks.rank() == 1 { &bad } else { &data[0] };
        let error = t.step_on(ranks, std::slice::from_ref(own)).unwrap_err();
        assert_eq!((t.digest().unwrap(), t.steps()), (digest, 0));
        // The ranks still agree, and go on.
        t.step_on(ranks, &data[ranks.rank()..=ranks.rank()]).unwrap();
        t.check_ranks(ranks).unwrap();
        error
    });
    assert!(matches!(&results[0], Error::Ranks { rank: 1, .. }), "{:?}", results[0]);
    assert!(matches!(&results[1], Error::LabelOutOfRange { .. }), "{:?}", results[1]);
}

#[test]
fn a_step_with_other_masks_on_one_rank_changes_nothing() {
    let data = batches(2);
    let results = on_all(2, |ranks| {
        let mut t = trainer(model(), Sgd::new(0.05).into());
        t.freeze("conv.kernel", FreezeRule::random([0.5, 0.6][ranks.rank()])).unwrap();
        let digest = t.digest().unwrap();
        let error = t.step_on(ranks, &data[ranks.rank()..=ranks.rank()]).unwrap_err();
        assert_eq!((t.digest().unwrap(), t.steps()), (digest, 0));
        error.to_string()
    });
    assert!(results.iter().all(|error| error.contains("rank 1: which elements are frozen")), "{results:?}");
}

#[test]
fn what_differs_between_ranks_is_named_on_all_of_them() {
    type Change = fn(&mut Trainer);
    let changes: [(Change, &str); 4] = [
        (|t| _ = t.freeze("conv.kernel", FreezeRule::random(0.5)).unwrap(), "the mask of conv.kernel"),
        (
            |t| {
                let mut bias = t.parameter("fc.bias").unwrap();
                bias[2] = 1e-30;
                t.set_parameter("fc.bias", &bias).unwrap();
            },
            "weights of fc.bias",
        ),
        (|t| t.step(&batches(1)[0]).unwrap(), "the step"),
        (|t| t.set_learning_rate(0.1).unwrap(), "the optimizer"),
    ];
    for (change, part) in changes {
        let results = on_all(3, |ranks| {
            let mut t = trainer(model(), Adam::new(0.01).into());
            if ranks.rank() == 2 {
                change(&mut t);
            }
            t.check_ranks(ranks).unwrap_err()
        });
        for error in results {
            assert!(matches!(&error, Error::Ranks { rank: 2, .. }), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    let other = || Model::input([5, 5, 2]).flatten().dense("fc", 4).build().unwrap();
    let results = on_all(2, |ranks| {
        let model = if ranks.rank() == 1 { other() } else { model() };
        trainer(model, Adam::new(0.01).into()).check_ranks(ranks).unwrap_err().to_string()
    });
    assert!(results.iter().all(|error| error.contains("rank 1: the model differs")), "{results:?}");
}

/// Examples of which one has a loss that is not finite.
fn examples(count: usize, not_finite: usize) -> Dataset {
    let mut all = batches(count.div_ceil(ROWS));
    let mut features: Vec<f32> =
        all.iter_mut().flat_map(|batch| std::mem::take(&mut batch.features)).collect();
    let mut labels: Vec<u32> = all.into_iter().flat_map(|batch| batch.labels).collect();
    features.truncate(50 * count);
    labels.truncate(count);
    features[50 * not_finite] = f32::NAN;
    Dataset::new("examples", [5, 5, 2], features, labels, 4).unwrap()
}

#[test]
fn evaluation_is_divided_among_the_ranks() {
    let data = Loader::new(examples(5 * ROWS + 2, 3 * ROWS + 1));
    let t = trainer(model(), Sgd::new(0.05).into());
    let expected = t.evaluate_over(&data).unwrap();
    assert_eq!(expected.first_non_finite, Some(3 * ROWS + 1));
    for count in [1, 2, 3, 7] {
        let results = on_all(count, |ranks| {
            let t = trainer(model(), Sgd::new(0.05).into());
            t.evaluate_on(ranks, &data).unwrap()
        });
        for result in &results {
            assert_eq!(*result, results[0], "all ranks have the same result");
            let loss = result.loss;
            assert!((loss - expected.loss).abs() < 1e-6, "{count}: {loss} {}", expected.loss);
            assert_eq!(
                frazil::trainer::Evaluation { loss: expected.loss, ..result.clone() },
                expected,
                "{count}"
            );
        }
    }
}

#[test]
fn each_batch_of_an_epoch_is_that_of_one_rank() {
    let data = Loader::new(examples(11 * ROWS + 1, 0));
    let all: Vec<_> = data.batches_for_epoch(ROWS, 5, 2).unwrap().map(Result::unwrap).collect();
    assert_eq!(all.len(), 12);
    for (count, each, begun) in [(1, 1, 0), (2, 1, 0), (3, 1, 4), (2, 2, 0), (3, 2, 5), (20, 1, 0)] {
        let mut found = vec![None; all.len()];
        for rank in 0..count {
            let batches = data.batches_for_epoch(ROWS, 5, 2).unwrap().starting_at(begun);
            let batches = batches.for_rank(rank, count, each).unwrap();
            let places = (begun..all.len()).filter(|place| (place - begun) / each % count == rank);
            assert_eq!(batches.len(), places.clone().count());
            for (place, batch) in places.zip(batches) {
                found[place] = Some(batch.unwrap().labels);
            }
        }
        let expected = all.iter().enumerate().map(|(n, batch)| (n >= begun).then(|| batch.labels.clone()));
        assert!(found.into_iter().eq(expected), "{count} ranks, {each} batches, from {begun}");
    }
}

#[test]
fn a_trainer_without_accumulation_is_refused() {
    let results = on_all(2, |ranks| {
        let options = TrainerOptions::batch(ROWS);
        let loss = Loss::SoftmaxCrossEntropy;
        let mut t = Trainer::new(gpu(), model(), loss, Sgd::new(0.1), options).unwrap();
        t.step_on(ranks, &batches(1)).unwrap_err().to_string()
    });
    assert!(results.iter().all(|error| error.contains("accumulate")), "{results:?}");
}
