//! Tests concurrent calls from several threads on one trainer, errors that must not change the trainer, and
//! the accounting of device memory.

use crate::support::device::gpu;
use crate::support::training::{ROWS, Snapshot, batches, data, model, snapshot, train, trainer};
use frazil::gpu::{Gpu, GpuOptions};
use frazil::{Adam, Batch, Error, FreezeRule, Loss, Mask, Sgd, ThawPolicy, Trainer, TrainerOptions};

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

/// A mask change that exceeds the memory budget returns an error and changes nothing. After each failure, the
/// next attempt has a budget just large enough for the allocation that failed, so that every allocation of
/// the mask change fails once.
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
        let (mut budget, mut failures) = (least, 0);
        loop {
            let gpu = on_budget(budget);
            let mut t = make(&gpu).unwrap();
            train(&mut t, 3);
            let before = everything(&t);
            match change(&mut t) {
                Err(Error::LimitExceeded { needed, available, .. }) => {
                    assert!(everything(&t) == before, "{name} with {budget} bytes");
                    train(&mut t, 1);
                    failures += 1;
                    budget += needed - available;
                }
                Err(error) => panic!("{name} with {budget} bytes: {error}"),
                Ok(()) => break,
            }
        }
        assert!(failures > 3, "{name}: {failures} allocations failed");
    }
    std::fs::remove_file(&file).unwrap();
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
    let saved = frazil::checkpoint::Checkpoint::read(&file).unwrap();
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
