//! Examples that worker threads read, divisions of data sets, and training over several epochs.

use crate::support::training::{data, trainer};
use frazil::data::{Augment, Examples, ImageOptions, Loader, TransformedImages, synthetic};
use frazil::trainer::{Fit, Fitted};
use frazil::{Batch, Error, Result, Sgd, TrainerOptions};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn options() -> TrainerOptions {
    TrainerOptions::batch(6).seed(3)
}

/// Numbered examples of which some are left out, fail or panic.
struct Numbered {
    labels: Vec<u32>,
    left_out: fn(usize) -> bool,
    fails: Option<usize>,
    panics: Option<usize>,
    read: AtomicUsize,
    time: fn(usize) -> Duration,
}

impl Numbered {
    fn new(count: usize) -> Self {
        let labels = (0..count).map(|index| index as u32).collect();
        let (left_out, time) = (|_| false, |_| Duration::ZERO);
        Numbered { labels, left_out, fails: None, panics: None, read: AtomicUsize::new(0), time }
    }
}

impl Examples for Numbered {
    fn name(&self) -> &str {
        "numbered"
    }

    fn example_shape(&self) -> &[usize] {
        // So many features that a worker reads one example at a time.
        &[128, 128]
    }

    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn classes(&self) -> usize {
        self.labels.len()
    }

    fn target_shape(&self) -> Option<&[usize]> {
        Some(&[1])
    }

    fn read(&self, index: usize, epoch: u64, features: &mut [f32], target: &mut [f32]) -> Result<bool> {
        self.read.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep((self.time)(index));
        assert_ne!(Some(index), self.panics, "example {index}");
        if Some(index) == self.fails {
            return Err(Error::EmptyBatch { at: format!("example {index}") });
        }
        features.fill(index as f32 + epoch as f32 / 8.0);
        target.fill(index as f32);
        Ok(!(self.left_out)(index))
    }
}

fn all(batches: impl Iterator<Item = Result<Batch>>) -> Vec<Batch> {
    batches.map(Result::unwrap).collect()
}

#[test]
fn batches_are_those_of_the_data_set_with_any_number_of_threads() {
    let data = Arc::new(synthetic("noise", [5, 7, 3], 9, 101, 4).unwrap());
    for batch in [1, 7, 64, 101, 500, usize::MAX] {
        let expected: Vec<_> = data.batches_for_epoch(batch, 11, 3).unwrap().collect();
        for workers in [0, 1, 2, 7] {
            let loader = Loader::new(Arc::clone(&data)).workers(workers);
            assert_eq!(all(loader.batches_for_epoch(batch, 11, 3).unwrap()), expected);
        }
        let loader = Loader::new(Arc::clone(&data));
        assert_eq!(all(loader.in_order(batch).unwrap()), data.in_order(batch).unwrap().collect::<Vec<_>>());
    }
    assert!(matches!(Loader::new(data).in_order(0), Err(Error::EmptyBatch { .. })));
}

#[test]
fn slow_examples_come_in_order_with_their_targets_and_epoch() {
    // The first of four examples takes the longest.
    let mut data = Numbered::new(22);
    data.time = |index| Duration::from_millis(8 - 2 * (index as u64 % 4));
    let data = Arc::new(data);
    let mut batches = Loader::new(Arc::clone(&data)).workers(5).batches_for_epoch(4, 1, 2).unwrap();
    let mut seen = Vec::new();
    for left in (0..6).rev() {
        let batch = batches.next().unwrap().unwrap();
        assert_eq!((batches.len(), batch.rows()), (left, if left == 0 { 2 } else { 4 }));
        for (row, &label) in batch.labels.iter().enumerate() {
            assert_eq!(batch.targets[row], label as f32);
            assert!(batch.features[row * 128 * 128..][..128 * 128].iter().all(|&x| x == label as f32 + 0.25));
        }
        seen.extend(batch.labels);
    }
    assert!(batches.next().is_none() && batches.next().is_none());
    assert!(batches.waited() > Duration::ZERO);
    assert_ne!(seen, data.labels);
    seen.sort_unstable();
    assert_eq!(seen, data.labels);
    assert_eq!(data.read.load(Ordering::SeqCst), 22, "each example is read once");
}

#[test]
fn workers_read_a_few_batches_ahead_and_stop_when_the_iterator_is_dropped() {
    let data = Arc::new(Numbered::new(1000));
    let loader = Loader::new(Arc::clone(&data)).workers(3);
    let mut batches = loader.in_order(10).unwrap();
    assert_eq!(data.read.load(Ordering::SeqCst), 0, "nothing is read before the first call");
    batches.next().unwrap().unwrap();
    let begun = Instant::now();
    let mut read = 0;
    while begun.elapsed() < Duration::from_millis(50) {
        read = data.read.load(Ordering::SeqCst);
    }
    assert!((10..60).contains(&read), "{read}");
    drop(batches);
    assert!(data.read.load(Ordering::SeqCst) < 60);
}

#[test]
fn a_slower_device_does_not_wait_for_examples() {
    let mut data = Numbered::new(80);
    data.time = |_| Duration::from_millis(4);
    let data = Arc::new(data);
    let loader = Loader::new(Arc::clone(&data)).workers(4);
    // Four threads read a batch in 8 ms, and one step takes 12 ms: without reading ahead it waits for 40 % of the time.
    let share_waited = || {
        let mut batches = loader.in_order(8).unwrap();
        batches.next().unwrap().unwrap();
        let (first, begun) = (batches.waited(), Instant::now());
        for batch in batches.by_ref() {
            std::thread::sleep(Duration::from_millis(12));
            batch.unwrap();
        }
        (batches.waited() - first).as_secs_f64() / begun.elapsed().as_secs_f64()
    };
    // On a machine with much other load, threads run late.
    let shares: Vec<_> = (0..20).map(|_| share_waited()).take_while(|&share| share > 0.2).collect();
    assert!(shares.len() < 20, "{shares:?}");
}

#[test]
fn reading_begins_before_the_first_batch_is_needed() {
    let data = Arc::new(Numbered::new(40));
    let batches = Loader::new(Arc::clone(&data)).workers(2).in_order(8).unwrap().begun().unwrap();
    let begun = Instant::now();
    while data.read.load(Ordering::SeqCst) < 8 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
    let expected = all(Loader::new(Arc::clone(&data)).in_order(8).unwrap());
    assert_eq!(all(batches), expected);
}

#[test]
fn epochs_are_resumed_without_reading_what_was_before() {
    let data = Arc::new(Numbered::new(50));
    let loader = Loader::new(Arc::clone(&data)).workers(2);
    let whole: Vec<_> = all(loader.batches_for_epoch(8, 5, 1).unwrap());
    data.read.store(0, Ordering::SeqCst);
    let batches = loader.batches_for_epoch(8, 5, 1).unwrap().starting_at(3);
    assert_eq!(batches.len(), 4);
    assert_eq!(all(batches), whole[3..]);
    assert_eq!(data.read.load(Ordering::SeqCst), 50 - 24);
    for beyond in [7, 8, usize::MAX] {
        assert_eq!(loader.batches_for_epoch(8, 5, 1).unwrap().starting_at(beyond).count(), 0);
    }
}

#[test]
fn examples_that_are_left_out_shorten_their_batches() {
    let mut data = Numbered::new(12);
    data.left_out = |index| index % 3 == 1 || (4..8).contains(&index);
    let batches = all(Loader::new(data).in_order(4).unwrap());
    let labels: Vec<_> = batches.iter().map(|batch| batch.labels.clone()).collect();
    assert_eq!(labels, [vec![0, 2, 3], vec![], vec![8, 9, 11]]);
    assert_eq!(batches[2].targets, [8.0, 9.0, 11.0]);
    assert_eq!(batches[2].features[128 * 128], 9.0);
}

#[test]
fn the_first_error_is_returned_in_its_batch_and_ends_the_epoch() {
    for workers in [1, 4] {
        let mut data = Numbered::new(40);
        data.fails = Some(17);
        let mut batches = Loader::new(data).workers(workers).in_order(5).unwrap();
        for _ in 0..3 {
            assert_eq!(batches.next().unwrap().unwrap().rows(), 5);
        }
        assert!(matches!(batches.next(), Some(Err(Error::EmptyBatch { at })) if at == "example 17"));
        assert!(batches.next().is_none());
    }
}

#[test]
fn a_panic_of_a_worker_is_not_a_hang() {
    let mut data = Numbered::new(40);
    data.panics = Some(9);
    let mut batches = Loader::new(data).workers(3).in_order(5).unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| while batches.next().is_some() {}));
    let message = *caught.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("example 9"), "{message}");
    assert!(batches.next().is_none());
}

#[test]
fn divisions_have_the_fraction_of_each_class_and_depend_on_the_seed() {
    let labels: Vec<u32> = (0..200).map(|row| [0, 0, 0, 1, 5][row % 5]).chain([7]).collect();
    let features = (0..201).map(|row| row as f32).collect();
    let data = frazil::Dataset::new("d", [1], features, labels, 9).unwrap();
    let (kept, held) = data.split(0.25, 1).unwrap();
    let count = |data: &frazil::Dataset, class| data.labels().iter().filter(|&&label| label == class).count();
    for (class, share) in [(0, 30), (1, 10), (5, 10), (7, 0)] {
        assert_eq!(count(&held, class), share, "class {class}");
        assert_eq!(count(&held, class) + count(&kept, class), count(&data, class));
    }
    let mut rows = [kept.features(), held.features()].concat();
    assert!(kept.features().is_sorted() && held.features().is_sorted());
    rows.sort_by(f32::total_cmp);
    assert_eq!(rows, data.features());
    assert_eq!(data.split(0.25, 1).unwrap(), (kept.clone(), held.clone()));
    assert_ne!(data.split(0.25, 2).unwrap().1.features(), held.features());
    // At least one of each class of two or more, and not all of them.
    for fraction in [1e-9, 0.999_999] {
        let (kept, held) = data.split(fraction, 1).unwrap();
        assert!([0, 1, 5].iter().all(|&class| count(&kept, class) > 0 && count(&held, class) > 0));
    }
    for wrong in [0.0, 1.0, -0.5, f64::NAN, f64::INFINITY] {
        assert!(matches!(data.split(wrong, 1), Err(Error::InvalidArgument { .. })), "{wrong}");
    }
    let single = frazil::Dataset::new("s", [1], vec![0.0; 2], vec![0, 1], 2).unwrap();
    assert!(matches!(single.split(0.5, 1), Err(Error::Data { .. })));
    let regression = frazil::Dataset::regression("r", [1], vec![1.0; 10], [2], vec![0.5; 20]).unwrap();
    let (kept, held) = regression.split(0.3, 1).unwrap();
    assert_eq!((kept.len(), held.len(), held.targets().len(), held.classes()), (7, 3, 6, 0));
}

#[test]
fn changed_images_do_not_depend_on_threads_or_batches() {
    let images = synthetic("images", [9, 8, 3], 4, 30, 2).unwrap();
    let images = images
        .map([9, 8, 3], |old, new| new.iter_mut().zip(old).for_each(|(new, old)| *new = old.abs() % 1.0))
        .unwrap();
    let options = ImageOptions::size([6, 6, 3]).unwrap().augment(Augment::none().flip().crop().color(), 5);
    let changed = Arc::new(TransformedImages::new(images, options).unwrap());
    let rows = |workers, batch, epoch| {
        let loader = Loader::new(Arc::clone(&changed)).workers(workers);
        let batches = all(loader.batches_for_epoch(batch, 1, epoch).unwrap());
        batches.iter().flat_map(|batch| batch.features.clone()).collect::<Vec<_>>()
    };
    let expected = rows(1, 1, 4);
    assert_eq!(expected.len(), 30 * 108);
    assert!(rows(3, 7, 4) == expected && rows(2, 30, 4) == expected);
    assert!(rows(1, 1, 5) != expected);
}

#[test]
fn evaluation_and_cached_outputs_are_those_of_the_data_set() {
    let data = Arc::new(data());
    let mut trainer = trainer(Sgd::new(0.1).into(), options());
    let loader = Loader::new(Arc::clone(&data));
    assert_eq!(trainer.evaluate_over(&loader).unwrap(), trainer.evaluate(&data).unwrap());
    trainer.freeze("conv*", frazil::FreezeRule::all()).unwrap();
    let cached = trainer.prefix_features_over(&loader).unwrap();
    assert_eq!(cached, trainer.prefix_features(&data).unwrap());
    let wrong = Loader::new(synthetic("wrong", [5, 5, 1], 4, 3, 1).unwrap());
    assert!(matches!(trainer.evaluate_over(&wrong), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(trainer.prefix_features_over(&wrong), Err(Error::ShapeMismatch { .. })));
}

#[test]
fn fit_trains_as_the_loop_by_hand() {
    let data = Arc::new(data());
    let mut by_hand = trainer(Sgd::new(0.1).momentum(0.9).into(), options());
    for epoch in 2..5 {
        by_hand.set_learning_rate(0.1 / (1.0 + epoch as f64)).unwrap();
        for batch in data.batches_for_epoch(6, 8, epoch).unwrap() {
            by_hand.step(&batch).unwrap();
        }
    }
    let mut fitted = trainer(Sgd::new(0.1).momentum(0.9).into(), options());
    let mut called = Vec::new();
    let result = Fit::epochs(5)
        .starting_at(2)
        .seed(8)
        .learning_rate(|epoch| 0.1 / (1.0 + epoch as f64))
        .on_epoch(|_, epoch| {
            called.push(epoch.number);
            Ok(ControlFlow::Continue(()))
        })
        .run(&mut fitted, &Loader::new(Arc::clone(&data)), None)
        .unwrap();
    assert_eq!(fitted.digest().unwrap(), by_hand.digest().unwrap());
    assert_eq!((called, result.epochs.len()), (vec![2, 3, 4], 3));
    assert!(result.epochs.iter().all(|epoch| epoch.train.examples == 40 && epoch.loss() == epoch.train.loss));
}

#[test]
fn fit_stops_early_and_returns_to_the_best_epoch() {
    let data = Loader::new(data());
    let file = std::env::temp_dir().join(format!("frazil-fit-{}.safetensors", std::process::id()));
    let mut one = trainer(Sgd::new(0.1).momentum(0.9).into(), options());
    let mut digests = Vec::new();
    let run = |fit: Fit, one: &mut frazil::Trainer| -> Fitted { fit.run(one, &data, Some(&data)).unwrap() };
    // From epoch 3 on, the rate is so high that the loss rises.
    let rate = |epoch| if epoch < 3 { 0.05 } else { 0.9 };
    let fit = Fit::epochs(50).patience(2).checkpoint(&file).learning_rate(rate).on_epoch(|trainer, _| {
        digests.push(trainer.digest()?);
        Ok(ControlFlow::Continue(()))
    });
    let fitted = run(fit, &mut one);
    let best = fitted.best.unwrap();
    let losses: Vec<_> = fitted.epochs.iter().map(|epoch| epoch.loss()).collect();
    assert_eq!(fitted.epochs.len() as u64, best + 3, "{losses:?}");
    assert!(losses.iter().all(|&loss| loss >= fitted.best_loss) && losses[best as usize] == fitted.best_loss);
    assert_eq!(one.digest().unwrap(), digests[best as usize]);
    let mut loaded = trainer(Sgd::new(0.1).momentum(0.9).into(), options());
    loaded.load(&file).unwrap();
    assert_eq!(loaded.digest().unwrap(), digests[best as usize]);
    std::fs::remove_file(&file).unwrap();
    // Without patience, the last epoch stays; a callback can end the training.
    let mut other = trainer(Sgd::new(0.1).momentum(0.9).into(), options());
    let fitted = run(Fit::epochs(9).on_epoch(|_, _| Ok(ControlFlow::Break(()))), &mut other);
    assert_eq!((fitted.epochs.len(), fitted.best), (1, Some(0)));
}
