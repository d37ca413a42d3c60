//! A small model with its trainer and data, and snapshots of all weights and optimizer state.

use super::device::gpu;
use frazil::low_level::ParameterId;
use frazil::trainer::OnNonFinite;
use frazil::{
    Adagrad, Adam, AdamW, Batch, Clip, Dataset, FreezeRule, Loss, Mask, Model, Optimizer, Padding, RmsProp,
    Sgd, Trainer, TrainerOptions,
};

/// Returns every update rule of the crate, with and without weight decay and clipping, by name.
pub fn optimizers() -> Vec<(&'static str, Optimizer)> {
    vec![
        ("sgd", Sgd::new(0.05).into()),
        ("sgd decay", Sgd::new(0.05).weight_decay(0.1).into()),
        ("momentum", Sgd::new(0.05).momentum(0.9).into()),
        ("momentum decay", Sgd::new(0.05).momentum(0.9).weight_decay(0.1).into()),
        ("nesterov decay", Sgd::new(0.05).momentum(0.9).nesterov(true).weight_decay(0.1).into()),
        ("adam", Adam::new(0.01).into()),
        ("adam decay", Adam::new(0.01).weight_decay(0.1).into()),
        ("adamw", AdamW::new(0.01).weight_decay(0.1).into()),
        ("adam amsgrad", Adam::new(0.01).amsgrad(true).into()),
        ("adamw amsgrad", AdamW::new(0.01).amsgrad(true).weight_decay(0.1).into()),
        ("rmsprop", RmsProp::new(0.005).into()),
        ("rmsprop decay", RmsProp::new(0.005).weight_decay(0.1).into()),
        ("rmsprop momentum decay", RmsProp::new(0.002).momentum(0.9).weight_decay(0.1).into()),
        ("rmsprop centred", RmsProp::new(0.002).centered(true).into()),
        (
            "rmsprop centred momentum decay",
            RmsProp::new(0.001).centered(true).momentum(0.9).weight_decay(0.1).into(),
        ),
        ("adagrad", Adagrad::new(0.05).into()),
        ("adagrad decay", Adagrad::new(0.05).weight_decay(0.1).into()),
        ("sgd clip", Optimizer::from(Sgd::new(0.2)).clip(Clip::norm(0.5))),
        (
            "momentum decay clip",
            Optimizer::from(Sgd::new(0.05).momentum(0.9).weight_decay(0.1)).clip(Clip::norm(0.5).over_all()),
        ),
        ("adam clip", Optimizer::from(Adam::new(0.01)).clip(Clip::norm(0.5))),
        (
            "rmsprop momentum clip value",
            Optimizer::from(RmsProp::new(0.002).momentum(0.9)).clip(Clip::value(0.01)),
        ),
        ("adagrad clip value", Optimizer::from(Adagrad::new(0.05)).clip(Clip::value(0.01))),
        (
            "adamw factors",
            Optimizer::from(AdamW::new(0.01).weight_decay(0.1))
                .learning_rate_factor("*.bias", 2.0)
                .weight_decay_factor("*.bias", 0.0),
        ),
    ]
}

/// Batch size: number of examples in a full batch.
pub const ROWS: usize = 6;

/// Builds a model for 5x5 images with 2 channels: 3x3 convolution with 5 output channels, ReLU, dense layer
/// with 4 outputs. The odd sizes leave remainders in every vectorized kernel.
pub fn model() -> Model {
    Model::input([5, 5, 2])
        .conv2d("conv", 5, [3, 3], |c| c.padding(Padding::Same))
        .relu()
        .flatten()
        .dense("fc", 4)
        .build()
        .unwrap()
}

/// Returns 40 seeded examples for [`model`].
pub fn data() -> Dataset {
    frazil::data::synthetic("synthetic", [5, 5, 2], 4, 40, 11).unwrap()
}

/// Creates a trainer of [`model`].
pub fn trainer(optimizer: Optimizer, options: TrainerOptions) -> Trainer {
    Trainer::new(gpu(), model(), Loss::SoftmaxCrossEntropy, optimizer, options).unwrap()
}

/// Returns options for batches of [`ROWS`] with which training continues after a non-finite loss. If updates
/// were skipped instead, no weight would change and every freeze test would pass.
pub fn continuing() -> TrainerOptions {
    continuing_with(ROWS)
}

/// Returns the options of [`continuing`] for another batch size.
pub fn continuing_with(rows: usize) -> TrainerOptions {
    TrainerOptions::batch(rows).seed(3).on_non_finite(OnNonFinite::Continue)
}

/// Trains for `steps` steps on the first batches of [`batches`].
pub fn train(trainer: &mut Trainer, steps: usize) {
    for batch in batches(steps) {
        trainer.step(&batch).unwrap();
    }
}

/// Returns the first `count` batches of [`data`], repeated epoch after epoch. The last batch of each epoch
/// has fewer than [`ROWS`] examples.
pub fn batches(count: usize) -> Vec<Batch> {
    let epoch: Vec<_> = data().batches(ROWS, 5).unwrap().collect();
    epoch.iter().cycle().take(count).cloned().collect()
}

/// Bits of all weights and optimizer state, indexed by parameter, tensor (0 for weights, then one for each
/// state slot) and element.
#[derive(Clone, PartialEq)]
pub struct Snapshot(pub Vec<Vec<Vec<u32>>>);

/// Reads all weights and optimizer state.
pub fn snapshot(trainer: &Trainer) -> Snapshot {
    let store = trainer.store();
    let parameters = (0..store.parameters().len()).map(|index| {
        let id = ParameterId::of(index);
        let state = (0..store.slots().len()).map(|slot| store.read_state(slot, id).unwrap());
        std::iter::once(store.read_weights(id).unwrap()).chain(state).collect()
    });
    Snapshot(parameters.collect())
}

/// Checks that frozen elements have the same bits in `before` and `after`.
///
/// # Errors
/// The first frozen weight or state element that differs.
pub fn check_frozen(trainer: &Trainer, before: &Snapshot, after: &Snapshot) -> Result<(), String> {
    for (index, parameter) in trainer.model().parameters().iter().enumerate() {
        let mask = trainer.mask(&parameter.path).unwrap();
        for (column, (old, new)) in before.0[index].iter().zip(&after.0[index]).enumerate() {
            if let Some(i) = mask.frozen_indices().find(|&i| old[i] != new[i]) {
                let what = if column == 0 { "weight".to_owned() } else { format!("state {}", column - 1) };
                return Err(format!(
                    "{what} {i} of {}: expected {:#010x}, got {:#010x}",
                    parameter.path, old[i], new[i]
                ));
            }
        }
    }
    Ok(())
}

/// Panics if a frozen element changed since `before`, or if the trainer's own verification says otherwise.
pub fn assert_frozen(name: &str, trainer: &Trainer, before: &Snapshot) {
    check_frozen(trainer, before, &snapshot(trainer)).unwrap_or_else(|message| panic!("{name}: {message}"));
    let proof = trainer.verify_frozen().unwrap();
    assert_eq!((proof.changed(), &proof.first_changed), (0, &None), "{name}:\n{proof}");
    assert!(proof.frozen() > 0, "{name}: nothing is frozen");
}

/// Returns the number of trainable weights whose bits changed since `before`, and the number of all trainable
/// weights.
pub fn moved(trainer: &Trainer, before: &Snapshot) -> (usize, usize) {
    let after = snapshot(trainer);
    let (mut moved, mut trainable) = (0, 0);
    for (index, parameter) in trainer.model().parameters().iter().enumerate() {
        let mask = trainer.mask(&parameter.path).unwrap();
        for i in (0..mask.len()).filter(|&i| !mask.is_frozen(i)) {
            trainable += 1;
            moved += usize::from(before.0[index][0][i] != after.0[index][0][i]);
        }
    }
    (moved, trainable)
}

/// Bits of floats that arithmetic may change or that propagate to other elements: NaN payloads (quiet and
/// signalling), infinities, -0.0 and subnormals.
pub const ODD_BITS: [u32; 9] = [
    0x7fc1_2345,
    0xffc5_4321,
    0x7f81_2345,
    0xff80_0001,
    0x7f80_0000,
    0xff80_0000,
    0x8000_0000,
    0x0000_0001,
    0x807f_ffff,
];

/// The finite values of [`ODD_BITS`], with which training stays finite.
pub const ODD_FINITE_BITS: [u32; 3] = [0x8000_0000, 0x0000_0001, 0x807f_ffff];

/// Freezes a random half of every tensor with values from `bits`, and writes values from `bits` into the
/// optimizer state of the frozen elements.
pub fn freeze_half_at(trainer: &mut Trainer, bits: &[u32]) {
    let paths: Vec<_> = trainer.model().parameters().iter().map(|p| p.path.clone()).collect();
    for (number, path) in paths.iter().enumerate() {
        let len = trainer.mask(path).unwrap().len();
        let mask = FreezeRule::random(0.5).seed(9).resolve(path, len).unwrap();
        let values: Vec<f32> = (0..len).map(|i| f32::from_bits(bits[i % bits.len()])).collect();
        write_state_bits(trainer, number, &mask, bits);
        trainer.set_and_freeze(path, &values, &mask).unwrap();
    }
}

/// Writes values from `bits` into the optimizer state of the elements that `mask` selects in parameter
/// `number`. The values are rotated by slot, so that the weight and the state of an element differ.
pub fn write_state_bits(trainer: &Trainer, number: usize, mask: &Mask, bits: &[u32]) {
    let (store, id) = (trainer.store(), ParameterId::of(number));
    for slot in 0..store.slots().len() {
        let mut state = store.read_state(slot, id).unwrap();
        mask.frozen_indices().for_each(|i| state[i] = bits[(i + 1 + slot) % bits.len()]);
        store.write_state(slot, id, &state).unwrap();
    }
}
