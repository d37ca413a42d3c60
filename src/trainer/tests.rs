//! Tests that need private parts of a trainer: calls after the loss of a device, and an infinite learning rate.

use super::*;
use crate::data::{Dataset, synthetic};
use crate::gpu::GpuOptions;
use crate::mask::FreezeRule;
use crate::optimizer::{Adagrad, Adam, AdamW, RmsProp, Sgd};

const BATCH: usize = 6;

type Call = (&'static str, fn(&mut Trainer, &Setup) -> Result<()>);

/// What the calls need besides the trainer.
struct Setup {
    data: Dataset,
    batch: Batch,
    features: Batch,
    snapshot: Snapshot,
    checkpoint: std::path::PathBuf,
}

/// Every method that uses the device.
const CALLS: &[Call] = &[
    ("step", |t, s| t.step(&s.batch)),
    ("step_over", |t, s| t.step_over(&[s.batch.clone(), s.batch.clone()])),
    ("step_loss", |t, s| t.step_loss(&s.batch).map(drop)),
    ("step_above", |t, s| t.step_above(&s.features)),
    ("metrics", |t, _| t.metrics().map(drop)),
    ("forget_non_finite", |t, _| t.forget_non_finite()),
    ("gradient_norm", |t, _| t.gradient_norm().map(drop)),
    ("evaluate", |t, s| t.evaluate(&s.data).map(drop)),
    ("predict", |t, s| t.predict(&s.batch.features).map(drop)),
    ("prefix_features", |t, s| t.prefix_features(&s.data).map(drop)),
    ("freeze", |t, _| t.freeze("fc.kernel", FreezeRule::all()).map(drop)),
    ("thaw", |t, _| t.thaw("conv.kernel", FreezeRule::all(), ThawPolicy::KeepState).map(drop)),
    ("replace_mask", |t, _| t.replace_mask("fc.bias", Mask::all(4)?, ThawPolicy::ZeroState)),
    ("set_and_freeze", |t, _| t.set_and_freeze("fc.bias", &[0.5; 4], &Mask::all(4)?)),
    ("prune", |t, _| t.prune("fc.bias", FreezeRule::all()).map(drop)),
    ("freeze_statistics", |t, _| t.freeze_statistics("bn.*")),
    ("verify_frozen", |t, _| t.verify_frozen().map(drop)),
    ("digest", |t, _| t.digest().map(drop)),
    ("parameter", |t, _| t.parameter("fc.bias").map(drop)),
    ("set_parameter", |t, _| t.set_parameter("fc.bias", &[0.5; 4])),
    ("state", |t, _| t.state("fc.bias", 0).map(drop)),
    ("set_state", |t, _| t.set_state("fc.bias", 0, &[0.5; 4])),
    ("gradient", |t, _| t.gradient("fc.bias").map(drop)),
    ("snapshot", |t, _| t.snapshot().map(drop)),
    ("rewind", |t, s| t.rewind(&s.snapshot, RewindState::Keep)),
    ("save", |t, s| t.save(s.checkpoint.with_extension("lost"))),
    ("load", |t, s| t.load(&s.checkpoint)),
    ("load_weights", |t, s| t.load_weights(&s.checkpoint, "fc.*").map(drop)),
    ("a new trainer", |t, _| trainer(&t.gpu.clone()).map(drop)),
    ("wait", |t, _| t.gpu.wait()),
];

fn trainer(gpu: &Gpu) -> Result<Trainer> {
    let model = Model::input([5, 5, 2])
        .conv2d("conv", 5, [3, 3], |c| c)
        .relu()
        .batch_norm("bn")
        .flatten()
        .dense("fc", 4)
        .build()?;
    let optimizer = Optimizer::from(Sgd::new(0.1).momentum(0.9)).clip(Clip::norm(1.0));
    let options = TrainerOptions::batch(BATCH).keep_gradients(true).accumulate(true);
    Trainer::new(gpu, model, Loss::SoftmaxCrossEntropy, optimizer, options)
}

#[test]
fn the_first_call_after_the_loss_of_a_device_fails() -> Result<()> {
    let checkpoint = std::env::temp_dir().join(format!("frazil-lost-{}.safetensors", std::process::id()));
    let own = || Gpu::new(GpuOptions::default().compile_ahead(false));
    let kinds: [(&dyn Fn() -> Result<Gpu>, &str); 2] =
        [(&own, "it was destroyed; "), (&Gpu::of_application, "see the device-lost callback")];
    for (open, reason) in kinds {
        for (name, call) in CALLS {
            let mut t = trainer(&open()?)?;
            let data = synthetic("synthetic", [5, 5, 2], 4, 2 * BATCH, 11)?;
            let Some(batch) = data.in_order(BATCH)?.next() else { panic!("no batch") };
            t.step(&batch)?;
            t.freeze("conv.*", FreezeRule::all())?;
            let features = t.prefix_features(&data)?.in_order(BATCH)?.next().unwrap_or_default();
            t.save(&checkpoint)?;
            let setup =
                Setup { data, batch, features, snapshot: t.snapshot()?, checkpoint: checkpoint.clone() };
            // The device has work in flight when it is lost.
            t.step(&setup.batch)?;
            t.gpu.destroy();
            for number in 0..5 {
                match call(&mut t, &setup) {
                    Err(Error::DeviceLost { reason: got }) => {
                        let message = Error::DeviceLost { reason: got }.to_string();
                        assert!(message.contains(reason), "{name}, call {number}: {message}");
                    }
                    other => panic!("{name}, call {number} after the loss: {other:?}"),
                }
            }
            // Every other method fails as well. Cached features are discarded before the device is used.
            for (other, call) in CALLS {
                let result = call(&mut t, &setup);
                let discarded = *other == "step_above" && result.is_err();
                let lost = matches!(result, Err(Error::DeviceLost { .. }));
                assert!(lost || discarded, "{name}, then {other}: {result:?}");
            }
        }
    }
    std::fs::remove_file(&checkpoint).map_err(|source| Error::Io { path: checkpoint, source })
}

/// With an infinite learning rate on the device, which the host's range does not allow, no update is finite:
/// nothing changes, and every call reports it until it is forgotten.
#[test]
fn an_update_that_is_not_finite_changes_nothing_and_is_reported() -> Result<()> {
    let gpu = Gpu::new(GpuOptions::default().compile_ahead(false))?;
    let data = synthetic("synthetic", [5, 5, 2], 4, BATCH, 11)?;
    let Some(good) = data.in_order(BATCH)?.next() else { panic!("no batch") };
    let optimizers: [Optimizer; 9] = [
        Sgd::new(0.05).into(),
        Sgd::new(0.05).momentum(0.9).nesterov(true).weight_decay(0.1).into(),
        Adam::new(0.01).weight_decay(0.1).into(),
        Adam::new(0.01).amsgrad(true).into(),
        AdamW::new(0.01).amsgrad(true).weight_decay(0.1).into(),
        RmsProp::new(0.002).into(),
        RmsProp::new(0.001).centered(true).momentum(0.9).weight_decay(0.1).into(),
        Adagrad::new(0.05).into(),
        Optimizer::from(Sgd::new(0.2)).clip(Clip::norm(0.5)),
    ];
    for optimizer in optimizers {
        let what = optimizer.describe();
        let model = Model::input([5, 5, 2]).conv2d("conv", 4, [3, 3], |c| c).relu().flatten().dense("fc", 4);
        let options = TrainerOptions::batch(BATCH);
        let mut t = Trainer::new(&gpu, model.build()?, Loss::SoftmaxCrossEntropy, optimizer, options)?;
        t.freeze("*", FreezeRule::random(0.5))?;
        for _ in 0..3 {
            t.step(&good)?;
        }
        let before = t.snapshot()?;
        let scalars = StepScalars { learning_rate: f32::INFINITY, ..t.scalars(&good) };
        t.training.run(&good, scalars)?;
        t.step += 1;
        let same = |t: &Trainer| {
            Ok::<_, Error>(t.snapshot()?.weights == before.weights && t.snapshot()?.state == before.state)
        };
        assert!(same(&t)?, "{what}");
        for _ in 0..2 {
            for result in [t.metrics().map(drop), t.step_loss(&good).map(drop), t.step(&good)] {
                let named =
                    matches!(&result, Err(Error::NonFiniteUpdate { step: 3, path }) if path == "conv.kernel");
                assert!(named, "{what}: {result:?}");
            }
        }
        assert!(same(&t)?, "{what}");
        t.forget_non_finite()?;
        assert_eq!(t.steps(), 4, "{what}");
        assert!(t.step_loss(&good)?.is_finite(), "{what}");
        assert!(!same(&t)? && t.verify_frozen()?.changed() == 0, "{what}");
    }
    Ok(())
}
