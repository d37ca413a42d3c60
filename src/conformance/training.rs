//! Training steps of a small network with partly frozen weights: frozen elements keep their bits, and another trainer with
//! the same seed has the same bits everywhere.

use super::case::{Case, Work};
use super::network::{BATCH, CLASSES, IMAGE, Training};
use super::outcome::{Failure, Measured, distinct};
use super::tensors::Tensors;
use crate::data::{Dataset, synthetic};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::ParameterId;
use crate::kernels::GemmFamily;
use crate::loss::Loss;
use crate::mask::FreezeRule;
use crate::optimizer::{Adagrad, Adam, AdamW, Clip, Optimizer, RmsProp, Sgd};
use crate::trainer::{Trainer, TrainerOptions};

/// Cases of every update rule.
pub fn training_cases() -> Vec<Case> {
    let optimizers = [
        ("sgd", Sgd::new(0.05).into()),
        (
            "sgd with Nesterov's momentum and decay",
            Sgd::new(0.05).momentum(0.9).nesterov(true).weight_decay(0.1).into(),
        ),
        ("sgd, clipped by norm", Optimizer::from(Sgd::new(0.05).momentum(0.9)).clip(Clip::norm(0.5))),
        ("adam with decay", Adam::new(0.01).weight_decay(0.1).into()),
        ("adamw", AdamW::new(0.01).weight_decay(0.1).into()),
        ("amsgrad", Adam::new(0.01).amsgrad(true).into()),
        ("rmsprop centred with momentum", RmsProp::new(0.002).centered(true).momentum(0.9).into()),
        ("adagrad", Adagrad::new(0.05).weight_decay(0.1).into()),
    ];
    let case = |(name, optimizer): (&str, Optimizer)| Case {
        name: format!("training steps, {name}"),
        work: Work::Training(Training { optimizer }),
    };
    optimizers.into_iter().map(case).collect()
}

/// Trains twice and compares.
pub(super) fn run(
    gpu: &Gpu,
    case: &Case,
    training: &Training,
    family: GemmFamily,
    tensors: &mut Tensors,
) -> std::result::Result<Measured, Failure> {
    // Four batches, the last of two rows.
    let data = synthetic("training", IMAGE, CLASSES, 3 * BATCH + 2, case.seed())?;
    let first = train(gpu, case, training, family, &data)?;
    let second = train(gpu, case, training, family, &data)?;
    for (number, bits) in words(&first)?.into_iter().enumerate() {
        tensors.hash(&bits);
        if words(&second)?[number] != bits {
            let path = &first.model().parameters()[number].path;
            return Err(Failure::Other(format!("{path}: two trainers with the same seed have other bits")));
        }
    }
    let kernels = distinct(first.report().dispatches.iter().map(|dispatch| dispatch.kernel));
    Ok(Measured { kernels, worst_error: 0.0 })
}

/// Trains an epoch with nothing frozen, and one with frozen elements.
fn train(
    gpu: &Gpu,
    case: &Case,
    training: &Training,
    family: GemmFamily,
    data: &Dataset,
) -> std::result::Result<Trainer, Failure> {
    let options = TrainerOptions::batch(BATCH).seed(case.seed()).family(family);
    let mut trainer = Trainer::new(
        gpu,
        Training::model()?,
        Loss::SoftmaxCrossEntropy,
        training.optimizer.clone(),
        options,
    )?;
    let epoch = |trainer: &mut Trainer, seed: u64| -> Result<()> {
        data.batches(BATCH, seed)?.try_for_each(|batch| trainer.step(&batch))
    };
    epoch(&mut trainer, 1)?;
    for (glob, rule) in [
        ("conv1.*", FreezeRule::random(0.5).seed(2)),
        ("norm.scale", FreezeRule::random(0.5).seed(3)),
        ("conv2.kernel", FreezeRule::filters(0.5)),
        ("conv2.bias", FreezeRule::all()),
        ("fc.kernel", FreezeRule::random(0.9).seed(4)),
    ] {
        trainer.freeze(glob, rule)?;
    }
    let before = words(&trainer)?;
    epoch(&mut trainer, 2)?;
    let report = trainer.verify_frozen()?;
    if report.changed() > 0 {
        return Err(Failure::Other(report.to_string()));
    }
    let mut moved = 0;
    for ((parameter, before), after) in trainer.model().parameters().iter().zip(&before).zip(words(&trainer)?)
    {
        let mask = trainer.mask(&parameter.path)?;
        // The weights, then the tensors of the optimizer's state.
        for (index, (old, new)) in before.iter().zip(&after).enumerate() {
            let element = index % mask.len().max(1);
            if old == new {
                continue;
            }
            if mask.is_frozen(element) {
                let path = &parameter.path;
                let message =
                    format!("{path}: frozen element {element}: expected {old:#010x}, got {new:#010x}");
                return Err(Failure::Other(message));
            }
            moved += usize::from(parameter.path == "fc.kernel");
        }
    }
    if moved == 0 {
        return Err(Failure::Other("no trainable element of fc.kernel has changed".to_owned()));
    }
    Ok(trainer)
}

/// The bits of each parameter, followed by those of its optimizer state.
fn words(trainer: &Trainer) -> Result<Vec<Vec<u32>>> {
    let store = trainer.store();
    let of = |index: usize| {
        let id = ParameterId::of(index);
        let mut all = store.read_weights(id)?;
        for slot in 0..store.slots().len() {
            all.extend(store.read_state(slot, id)?);
        }
        Ok(all)
    };
    (0..store.parameters().len()).map(of).collect()
}
