//! Tests concurrent calls from several threads on one trainer, errors that must not change the trainer, and
//! the accounting of device memory.

use crate::support::device::gpu;
use crate::support::training::{
    ROWS, Snapshot, batches, check_frozen, data, model, optimizers, snapshot, train, trainer,
};
use frazil::checkpoint::Checkpoint;
use frazil::data::Loader;
use frazil::gpu::{Gpu, GpuOptions};
use frazil::mask::Score;
use frazil::ranks::threads;
use frazil::trainer::RewindState;
use frazil::{
    Adam, Batch, Dataset, Error, FreezeRule, Loss, Mask, Model, Sgd, ThawPolicy, Trainer, TrainerOptions,
};
use std::time::Duration;

const THREADS: usize = 4;

/// Calls `read` five times on each of four threads at once, and asserts that every result equals that of an
/// earlier call on one thread.
fn agrees<T: PartialEq + Send>(what: &str, trainer: &Trainer, read: impl Fn(&Trainer) -> T + Sync) {
    let expected = read(trainer);
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..THREADS).map(|_| scope.spawn(|| (0..5).map(|_| read(trainer)).collect::<Vec<_>>())).collect();
        for worker in workers {
            for result in worker.join().unwrap() {
                assert!(result == expected, "{what} differs between threads");
            }
        }
    });
}

#[test]
fn shared_methods_agree_between_four_threads() {
    let options = TrainerOptions::batch(ROWS).seed(3).keep_gradients(true);
    let mut t = trainer(Adam::new(0.01).into(), options);
    t.freeze("conv.kernel", FreezeRule::random(0.5).seed(2)).unwrap();
    train(&mut t, 9);
    let data = data();
    let features: Vec<f32> = data.in_order(40).unwrap().next().unwrap().features;
    agrees("evaluate", &t, |t| t.evaluate(&data).unwrap());
    agrees("predict", &t, |t| t.predict(&features).unwrap());
    let batch = data.in_order(ROWS).unwrap().next().unwrap();
    agrees("activations", &t, |t| t.activations("conv", &batch).unwrap());
    agrees("input_gradient", &t, |t| t.input_gradient(&batch).unwrap());
    agrees("scores", &t, |t| t.scores(Score::Gradient, [batch.clone()]).unwrap());
    let loader = Loader::new(data.clone());
    agrees("evaluate_over", &t, |t| t.evaluate_over(&loader).unwrap());
    agrees("check_ranks", &t, |t| t.check_ranks(&threads(1, Duration::from_secs(60))[0]).unwrap());
    agrees("parameters", &t, |t| t.parameters().unwrap());
    agrees("parameter", &t, |t| t.parameter("fc.kernel").unwrap());
    agrees("state", &t, |t| t.state("fc.kernel", 1).unwrap());
    agrees("gradient", &t, |t| t.gradient("conv.bias").unwrap());
    agrees("snapshot", &t, |t| t.snapshot().unwrap());
    agrees("verify_frozen", &t, |t| t.verify_frozen().unwrap());
    agrees("digest", &t, |t| t.digest().unwrap());
    let folder = std::env::temp_dir().join(format!("frazil-threads-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    agrees("save", &t, |t| {
        let file = folder.join(format!("{:?}.safetensors", std::thread::current().id()));
        t.save(&file).unwrap();
        std::fs::read(&file).unwrap()
    });
    std::fs::remove_dir_all(&folder).unwrap();
    // Calls a different method on each of four threads at the same time.
    let (accuracy, digest) = (t.evaluate(&data).unwrap(), t.digest().unwrap());
    let outputs = t.predict(&features).unwrap();
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let (t, data, features, accuracy, outputs) = (&t, &data, &features, &accuracy, &outputs);
            scope.spawn(move || {
                for _ in 0..5 {
                    match number {
                        0 => assert_eq!(t.evaluate(data).unwrap(), *accuracy),
                        1 => assert!(t.predict(features).unwrap() == *outputs),
                        2 => assert_eq!(t.digest().unwrap(), digest),
                        _ => assert_eq!(t.verify_frozen().unwrap().changed(), 0),
                    }
                }
            });
        }
    });
}

/// Reads all state that a failed call must not change: weights, optimizer state, masks, step count, learning
/// rate and memory. Asserts that the masks on the device equal those on the host.
fn everything(t: &Trainer) -> (Snapshot, Vec<Mask>, u64, f64, u64) {
    let masks: Vec<_> = t.model().parameters().iter().map(|p| t.mask(&p.path).unwrap().clone()).collect();
    let device = (0..t.store().parameters().len())
        .map(|index| t.store().read_mask(frazil::low_level::ParameterId::of(index)).unwrap());
    assert!(device.eq(masks.iter().cloned()), "masks on the device");
    (snapshot(t), masks, t.steps(), t.optimizer().learning_rate(), t.report().bytes())
}

/// Opens a device on which at most `bytes` bytes may be allocated.
fn on_budget(bytes: u64) -> Gpu {
    let options = GpuOptions::default().compile_ahead(false).memory_budget(bytes);
    Gpu::new(options).unwrap()
}

/// Applies a change to new trainers on devices whose memory budget does not suffice, and asserts that it
/// returns an error and changes nothing. The first budget is `least` bytes. After each failure, the next
/// attempt has a budget just large enough for the allocation that failed, so that every allocation of the
/// change fails once. Returns the number of failures.
fn fail_every_allocation(
    name: &str,
    least: u64,
    make: impl Fn(&Gpu) -> Trainer,
    change: impl Fn(&mut Trainer) -> frazil::Result<()>,
) -> usize {
    let (mut budget, mut failures) = (least, 0);
    loop {
        let gpu = on_budget(budget);
        let mut t = make(&gpu);
        let (before, allocated) = (everything(&t), gpu.allocated_bytes());
        match change(&mut t) {
            Err(Error::LimitExceeded { needed, available, .. }) => {
                assert!(everything(&t) == before, "{name} with {budget} bytes");
                assert_eq!(gpu.allocated_bytes(), allocated, "{name} with {budget} bytes");
                train(&mut t, 1);
                failures += 1;
                budget += needed - available;
            }
            Err(error) => panic!("{name} with {budget} bytes: {error}"),
            Ok(()) => return failures,
        }
    }
}

/// A mask change that exceeds the memory budget returns an error and changes nothing.
#[test]
fn a_mask_change_that_does_not_fit_changes_nothing() {
    let options = || TrainerOptions::batch(ROWS).seed(3);
    let make = |gpu: &Gpu| Trainer::new(gpu, model(), Loss::SoftmaxCrossEntropy, Sgd::new(0.05), options());
    let least = make(gpu()).unwrap().report().bytes();
    let file = std::env::temp_dir().join(format!("frazil-budget-{}.safetensors", std::process::id()));
    let mut other = make(gpu()).unwrap();
    other.freeze("conv.*", FreezeRule::all()).unwrap();
    train(&mut other, 2);
    other.save(&file).unwrap();
    type Change<'a> = (&'a str, Box<dyn Fn(&mut Trainer) -> frazil::Result<()> + 'a>);
    // Each change freezes a tensor entirely. The tensor then needs no gradient, so the trainer compiles a new
    // plan, which allocates memory.
    let all = || Mask::all(500).unwrap();
    let changes: Vec<Change> = vec![
        ("freeze", Box::new(|t| t.freeze("conv.*", FreezeRule::all()).map(drop))),
        ("prune", Box::new(|t| t.prune("conv.*", FreezeRule::all()).map(drop))),
        ("replace_mask", Box::new(|t| t.replace_mask("fc.kernel", all(), ThawPolicy::KeepState))),
        ("set_and_freeze", Box::new(|t| t.set_and_freeze("fc.kernel", &[0.5; 500], &all()))),
        ("load", Box::new(|t| t.load(&file))),
    ];
    for (name, change) in changes {
        let make = |gpu: &Gpu| {
            let mut t = make(gpu).unwrap();
            train(&mut t, 3);
            t
        };
        let failures = fail_every_allocation(name, least, make, change);
        assert!(failures > 3, "{name}: {failures} allocations failed");
    }
    std::fs::remove_file(&file).unwrap();
}

/// The first thaw under Adam of elements that missed steps allocates an arena and a plan.
#[test]
fn a_first_thaw_that_does_not_fit_changes_nothing() {
    let make = |gpu: &Gpu| {
        let options = TrainerOptions::batch(ROWS).seed(3);
        let mut t = Trainer::new(gpu, model(), Loss::SoftmaxCrossEntropy, Adam::new(0.01), options).unwrap();
        t.freeze("fc.kernel", FreezeRule::random(0.1)).unwrap();
        train(&mut t, 3);
        t
    };
    let mut whole = make(&on_budget(1 << 30));
    let least = whole.report().bytes();
    let start = whole.snapshot().unwrap();
    whole.thaw("fc.kernel", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
    train(&mut whole, 1);
    let missed = whole.snapshot().unwrap();
    let file = std::env::temp_dir().join(format!("frazil-thaw-budget-{}.safetensors", std::process::id()));
    whole.save(&file).unwrap();
    let restore = RewindState::Restore;
    let masks = |t: &mut Trainer| t.thaw("fc.kernel", FreezeRule::all(), ThawPolicy::KeepState).map(drop);
    let failures = [
        fail_every_allocation("thaw", least, make, masks),
        fail_every_allocation("load", least, make, |t| t.load(&file)),
        fail_every_allocation(
            "rewind",
            least,
            |gpu| {
                let mut t = make(gpu);
                t.rewind(&start, RewindState::Zero).unwrap();
                t.replace_mask("fc.kernel", Mask::none(500).unwrap(), ThawPolicy::ZeroState).unwrap();
                t
            },
            |t| t.rewind(&missed, restore),
        ),
    ];
    std::fs::remove_file(&file).unwrap();
    assert!(failures.iter().all(|&failures| failures > 3), "{failures:?} allocations failed");
}

#[test]
fn report_counts_every_byte_and_a_trainer_over_budget_creates_nothing() {
    let options = || TrainerOptions::batch(ROWS).seed(3).accumulate(true);
    let gpu = on_budget(1 << 30);
    let mut t = Trainer::new(&gpu, model(), Loss::SoftmaxCrossEntropy, Adam::new(0.1), options()).unwrap();
    let needed = t.report().bytes();
    assert_eq!(needed, gpu.allocated_bytes());
    let estimate =
        Trainer::estimate(gpu.report(), &model(), Loss::SoftmaxCrossEntropy, Adam::new(0.1), &options());
    assert_eq!(estimate.unwrap(), *t.report());
    t.freeze("conv.*", FreezeRule::all()).unwrap();
    assert_eq!(t.report().bytes(), gpu.allocated_bytes(), "after a mask change");

    let small = on_budget(needed - 1);
    match Trainer::new(&small, model(), Loss::SoftmaxCrossEntropy, Adam::new(0.1), options()) {
        Err(Error::LimitExceeded { needed: wanted, available, .. }) => {
            assert_eq!((wanted, available), (needed, needed - 1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((small.buffers_created(), small.allocated_bytes()), (0, 0));
}

#[test]
fn non_finite_loss_is_reported_by_every_call_until_forget_non_finite() {
    let good = batches(1).remove(0);
    let bad = Batch { features: vec![f32::NAN; good.features.len()], ..good.clone() };
    let mut t = trainer(Sgd::new(0.1).into(), TrainerOptions::batch(ROWS).seed(3).progress_every(0));
    train(&mut t, 3);
    let weights = snapshot(&t);
    // The step with NaN features returns no error, because its loss has not been read back from the device
    // yet.
    t.step(&bad).unwrap();
    t.step(&good).unwrap();
    let file = std::env::temp_dir().join(format!("frazil-nan-{}.safetensors", std::process::id()));
    t.save(&file).unwrap();
    let saved = Checkpoint::read(&file).unwrap();
    assert_eq!(saved.notes()["step"], "3", "the saved step is that of the weights");
    std::fs::remove_file(&file).unwrap();
    let at_3 = |error: Error| matches!(error, Error::NonFiniteLoss { step: 3 });
    for _ in 0..10 {
        assert!(at_3(t.step_loss(&good).unwrap_err()));
        assert!(at_3(t.step(&good).unwrap_err()));
        assert!(at_3(t.metrics().unwrap_err()));
        assert!(at_3(t.profile_step(&good).unwrap_err()));
    }
    assert_eq!(t.steps(), 3);
    assert!(snapshot(&t) == weights);
    t.forget_non_finite().unwrap();
    assert!(t.step_loss(&good).unwrap().is_finite());
    assert_eq!(t.steps(), 4);
    assert!(snapshot(&t) != weights);
}

fn all_finite(snapshot: &Snapshot) -> bool {
    snapshot.0.iter().flatten().flatten().all(|&bits| f32::from_bits(bits).is_finite())
}

/// Gradients that overflow when they are squared or multiplied by the learning rate: elements with such an
/// update keep weight and state together, the others are updated, and later steps are skipped.
#[test]
fn an_update_that_overflows_in_part_leaves_everything_finite() {
    let good = batches(1).remove(0);
    // The features of each example twice, with two labels, so that no network is right about both.
    let half: Vec<f32> = good.features[..ROWS / 2 * 50].iter().map(|x| x * 1e26).collect();
    let large =
        Batch { features: [half.clone(), half].concat(), labels: vec![0, 1, 2, 1, 2, 3], ..good.clone() };
    for (name, optimizer) in optimizers().into_iter().filter(|(name, _)| !name.contains("clip")) {
        let options = TrainerOptions::batch(ROWS).seed(3).progress_every(0).keep_gradients(true);
        let mut t = trainer(optimizer, options);
        t.freeze("*", FreezeRule::random(0.5)).unwrap();
        train(&mut t, 3);
        let before = snapshot(&t);
        t.set_learning_rate(1e15).unwrap();
        t.step(&large).unwrap();
        let after = snapshot(&t);
        assert!(all_finite(&after), "{name}");
        check_frozen(&t, &before, &after).unwrap();
        let (mut updated, mut kept) = (0, 0);
        for (parameter, (old, new)) in t.model().parameters().iter().zip(before.0.iter().zip(&after.0)) {
            for (i, g) in t.gradient(&parameter.path).unwrap().into_iter().enumerate() {
                let unchanged = old.iter().zip(new).all(|(old, new)| old[i] == new[i]);
                if g.abs() > 1e24 {
                    kept += 1;
                    assert!(unchanged, "{name}: {}[{i}] with the gradient {g}", parameter.path);
                }
                updated += usize::from(!unchanged);
            }
        }
        assert!(updated > 0 && kept > 20, "{name}: {updated} updated, {kept} kept");
        t.step(&good).unwrap();
        t.step(&good).unwrap();
        assert!(snapshot(&t) == after, "{name}: a later step updates nothing");
        let error = t.metrics().unwrap_err();
        assert!(matches!(&error, Error::NonFiniteUpdate { step: 3, .. }), "{name}: {error}");
        assert_eq!(t.steps(), 4, "{name}");
        let file = std::env::temp_dir().join(format!("frazil-overflow-{}.safetensors", std::process::id()));
        t.save(&file).unwrap();
        assert_eq!(Checkpoint::read(&file).unwrap().notes()["step"], "4");
        std::fs::remove_file(&file).unwrap();
    }
}

fn norm_model() -> Model {
    Model::input([5, 5, 2])
        .conv2d("conv", 3, [3, 3], |c| c)
        .batch_norm("bn")
        .relu()
        .flatten()
        .dense("fc", 4)
        .build()
        .unwrap()
}

fn norm_trainer(rows: usize, accumulate: bool) -> Trainer {
    let options = TrainerOptions::batch(rows).seed(3).accumulate(accumulate);
    Trainer::new(gpu(), norm_model(), Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options).unwrap()
}

/// The variance of a batch overflows, and the loss is finite, because the inverse standard deviation is 0.
#[test]
fn running_statistics_stay_finite() {
    let good = batches(1).remove(0);
    let large = Batch { features: good.features.iter().map(|x| x * 1e25).collect(), ..good.clone() };
    let mut t = norm_trainer(ROWS, true);
    t.step(&large).unwrap();
    assert_eq!(t.parameter("bn.running_var").unwrap(), [1.0; 3]);
    let named =
        |error: &Error| matches!(error, Error::NonFiniteUpdate { step: 0, path } if path == "bn.running_var");
    let error = t.metrics().unwrap_err();
    assert!(named(&error), "{error}");
    assert_eq!(t.steps(), 1);
    // In the first of two accumulated batches: the update of that step is skipped.
    let mut t = norm_trainer(ROWS, true);
    let before = t.parameter("fc.kernel").unwrap();
    t.step_over(&[large, good]).unwrap();
    assert_eq!(t.parameter("fc.kernel").unwrap(), before);
    let error = t.metrics().unwrap_err();
    assert!(named(&error), "{error}");
    assert_eq!(t.steps(), 0);
}

/// Statistics that no batches can give are refused with their tensor and index, and nothing changes.
#[test]
fn running_statistics_out_of_range_are_refused() {
    let file = std::env::temp_dir().join(format!("frazil-variance-{}.safetensors", std::process::id()));
    let statistics = [("bn.running_mean", 4), ("bn.running_var", 5)];
    for (path, index) in statistics {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0] {
            if path == "bn.running_mean" && value == -1.0 {
                continue;
            }
            let mut values = [0.5; 3];
            values[2] = value;
            let damaged = norm_trainer(ROWS, false);
            let id = frazil::low_level::ParameterId::of(index);
            damaged.store().write_weights(id, &values.map(f32::to_bits)).unwrap();
            damaged.save(&file).unwrap();
            let mut t = norm_trainer(ROWS, false);
            let before = snapshot(&t);
            let checked = |error: Error| {
                let text = error.to_string();
                assert!(text.contains(&format!("{path}[2]")) && text.contains(&value.to_string()), "{text}");
            };
            checked(t.load(&file).unwrap_err());
            checked(t.load_weights(&file, "*").unwrap_err());
            checked(t.set_parameter(path, &values).unwrap_err());
            assert!(snapshot(&t) == before, "{path} {value}");
            t.load_weights(&file, "fc.*").unwrap();
        }
    }
    std::fs::remove_file(&file).unwrap();
}

/// A NaN in the features of one example: it is counted and named, and the result for the others does not
/// depend on the batch size.
#[test]
fn evaluation_counts_and_names_examples_with_a_non_finite_loss() {
    let clean = data();
    let (features, labels): (Vec<f32>, Vec<u32>) = {
        let all = clean.in_order(40).unwrap().next().unwrap();
        (all.features, all.labels)
    };
    let bad = [17, 30];
    let mut damaged = features.clone();
    damaged[17 * 50 + 3] = f32::NAN;
    damaged[30 * 50] = f32::INFINITY;
    let keep = |row: &usize| !bad.contains(row);
    let rest: Vec<f32> =
        (0..40).filter(keep).flat_map(|row| features[row * 50..(row + 1) * 50].to_vec()).collect();
    let rest_labels: Vec<u32> = (0..40).filter(keep).map(|row| labels[row]).collect();
    let with = |features, labels| Dataset::new("synthetic", [5, 5, 2], features, labels, 4).unwrap();
    let (damaged, rest) = (with(damaged, labels), with(rest, rest_labels));
    for loss in
        [Loss::SoftmaxCrossEntropy, Loss::cross_entropy().class_weights(vec![1.0, 2.0, 0.5, 3.0]).into()]
    {
        let mut results = Vec::new();
        for rows in [1, 7, 40] {
            let options = TrainerOptions::batch(rows).seed(3);
            let t = Trainer::new(gpu(), model(), loss.clone(), Sgd::new(0.1), options).unwrap();
            let (e, expected) = (t.evaluate(&damaged).unwrap(), t.evaluate(&rest).unwrap());
            assert_eq!((e.examples, e.non_finite, e.first_non_finite), (40, 2, Some(17)));
            assert_eq!((expected.examples, expected.non_finite, expected.first_non_finite), (38, 0, None));
            assert!((e.loss - expected.loss).abs() < 1e-6, "{e} {expected}");
            assert_eq!((e.correct, &e.confusion), (expected.correct, &expected.confusion));
            assert!(e.to_string().contains("2 whose loss is not finite, the first at index 17"), "{e}");
            results.push((e.correct, e.confusion));
        }
        assert!(results.iter().all(|result| *result == results[0]), "the batch size has no influence");
    }
    let t = trainer(Sgd::new(0.1).into(), TrainerOptions::batch(ROWS));
    let nan = with(vec![f32::NAN; 50], vec![0]);
    let e = t.evaluate(&nan).unwrap();
    assert!(e.loss.is_nan() && e.correct == Some(0) && e.non_finite == 1, "{e}");
}
