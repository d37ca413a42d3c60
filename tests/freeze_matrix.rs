//! Every update rule with every modifier of the update, under masks that are set, extended and thawed during
//! training: frozen weights and their state keep their bits, and trainable elements change.

use crate::support::device::{families, gpu};
use crate::support::training::*;
use frazil::low_level::GemmFamily;
use frazil::low_level::ParameterId;
use frazil::{
    Adagrad, Adam, AdamW, Batch, Clip, FreezeRule, Loss, Mask, Model, Optimizer, RmsProp, Sgd, ThawPolicy,
    Trainer,
};

/// Creates an optimizer with this weight decay.
type Rule = fn(f64) -> Optimizer;

/// The update rules: one for each update kernel and each branch within it.
const RULES: [(&str, Rule); 12] = [
    ("sgd", |decay| Sgd::new(0.01).weight_decay(decay).into()),
    ("momentum", |decay| Sgd::new(0.01).momentum(0.9).weight_decay(decay).into()),
    ("nesterov", |decay| Sgd::new(0.01).momentum(0.9).nesterov(true).weight_decay(decay).into()),
    ("adam", |decay| Adam::new(0.01).weight_decay(decay).into()),
    ("adamw", |decay| AdamW::new(0.01).weight_decay(decay).into()),
    ("amsgrad", |decay| Adam::new(0.01).amsgrad(true).weight_decay(decay).into()),
    ("adamw amsgrad", |decay| AdamW::new(0.01).amsgrad(true).weight_decay(decay).into()),
    ("rmsprop", |decay| RmsProp::new(0.01).weight_decay(decay).into()),
    ("rmsprop momentum", |decay| RmsProp::new(0.01).momentum(0.9).weight_decay(decay).into()),
    ("rmsprop centred", |decay| RmsProp::new(0.01).centered(true).weight_decay(decay).into()),
    ("rmsprop centred momentum", |decay| {
        RmsProp::new(0.01).centered(true).momentum(0.9).weight_decay(decay).into()
    }),
    ("adagrad", |decay| Adagrad::new(0.01).weight_decay(decay).into()),
];

/// Modifiers of an update.
struct Modifiers {
    name: &'static str,
    decay: f64,
    clip: Option<Clip>,
    /// Number of batches accumulated for one update.
    accumulate: usize,
}

const MODIFIERS: [Modifiers; 6] = [
    Modifiers { name: "plain", decay: 0.0, clip: None, accumulate: 1 },
    Modifiers { name: "decay", decay: 0.1, clip: None, accumulate: 1 },
    Modifiers { name: "clip by norm", decay: 0.0, clip: Some(NORM), accumulate: 1 },
    Modifiers { name: "clip by value", decay: 0.0, clip: Some(Clip::Value { limit: 0.01 }), accumulate: 1 },
    Modifiers { name: "accumulation", decay: 0.0, clip: None, accumulate: 2 },
    Modifiers { name: "decay, clip, accumulation", decay: 0.1, clip: Some(NORM), accumulate: 2 },
];

const NORM: Clip = Clip::Norm { max: 0.5, over_all: false };

/// One event of a scenario.
enum Event {
    /// Trains some steps, and compares the frozen bits before and after.
    Train,
    /// Freezes [`Part::Preset`] at given weights, with given state.
    FreezePreset,
    /// Freezes [`Part::Frozen`] at its present weights.
    Freeze,
    /// Thaws [`Part::Frozen`].
    Thaw(ThawPolicy),
    /// Flips one bit of a frozen element in the parameter store: of the weights (0), or of slot n - 1 (n).
    Corrupt(usize),
}

use Event::{Corrupt, Freeze, FreezePreset, Thaw, Train};

const SCENARIOS: [(&str, &[Event]); 5] = [
    ("mask at step 0", &[FreezePreset, Freeze, Train]),
    ("mask set during training", &[Train, FreezePreset, Freeze, Train]),
    ("mask extended during training", &[FreezePreset, Train, Freeze, Train]),
    ("thawed with its state", &[FreezePreset, Freeze, Train, Thaw(ThawPolicy::KeepState), Train]),
    ("thawed without its state", &[FreezePreset, Freeze, Train, Thaw(ThawPolicy::ZeroState), Train]),
];

/// Bits that float arithmetic may not preserve and that keep the loss finite: -0.0, the smallest and the
/// largest subnormal, 1 + 1 ulp, and a weight so large that every softmax is saturated.
const FINITE_BITS: [u32; 5] = [0x8000_0000, 0x0000_0001, 0x807f_ffff, 0x3f80_0001, 0x42c8_0001];

/// Role of an element. Every tensor has all three, next to each other in the vec4s that kernels update.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Part {
    Preset,
    Frozen,
    Trainable,
}

fn part(index: usize) -> Part {
    use Part::{Frozen, Preset, Trainable};
    [Preset, Frozen, Trainable, Preset, Trainable, Trainable, Frozen][index % 7]
}

fn mask_of(which: Part, len: usize) -> Mask {
    Mask::from_frozen((0..len).map(|index| part(index) == which))
}

/// A model whose gradients are never exactly 0: it has leaky ReLU, and label smoothing in case softmax is
/// saturated.
fn model() -> Model {
    Model::input([4, 4, 1])
        .conv2d("conv", 4, [3, 3], |c| c.padding(frazil::Padding::Same))
        .leaky_relu(0.1)
        .flatten()
        .dense("fc", 3)
        .build()
        .unwrap()
}

/// Three batches of 4 rows and one of 3.
fn batches() -> Vec<Batch> {
    let data = frazil::data::synthetic("synthetic", [4, 4, 1], 3, 15, 11).unwrap();
    data.batches(4, 5).unwrap().collect()
}

/// A trainer for one combination of rule, modifiers, scenario and GEMM family.
struct Run {
    name: String,
    trainer: Trainer,
    /// Bits of the weights of [`Part::Preset`].
    bits: &'static [u32],
    /// Number of batches accumulated for one update.
    accumulate: usize,
    batches: Vec<Batch>,
    /// Expected weights and optimizer state before the next event.
    last: Snapshot,
}

impl Run {
    fn new(
        name: String,
        rule: Rule,
        modifiers: &Modifiers,
        family: GemmFamily,
        bits: &'static [u32],
    ) -> Self {
        let mut optimizer = rule(modifiers.decay);
        if let Some(clip) = modifiers.clip {
            optimizer = optimizer.clip(clip);
        }
        let options = continuing_with(4).family(family).accumulate(modifiers.accumulate > 1);
        let loss = Loss::cross_entropy().label_smoothing(0.3);
        let trainer = Trainer::new(gpu(), model(), loss, optimizer, options).unwrap();
        let last = snapshot(&trainer);
        Run { name, trainer, bits, accumulate: modifiers.accumulate, batches: batches(), last }
    }

    fn paths(&self) -> Vec<(String, usize)> {
        let all = self.trainer.model().parameters();
        all.iter().map(|p| (p.path.clone(), p.shape.elements())).collect()
    }

    /// Runs the events of a scenario.
    ///
    /// # Errors
    /// Names the frozen element that changed.
    fn run(&mut self, events: &[Event]) -> Result<(), String> {
        for event in events {
            match event {
                Train => self.train()?,
                FreezePreset => self.freeze_preset(),
                Freeze => self.freeze(),
                Thaw(policy) => self.thaw(*policy),
                Corrupt(column) => self.corrupt(*column),
            }
        }
        Ok(())
    }

    fn train(&mut self) -> Result<(), String> {
        for pair in self.batches.windows(2) {
            self.trainer.step_over(&pair[..self.accumulate]).unwrap();
        }
        let now = snapshot(&self.trainer);
        check_frozen(&self.trainer, &self.last, &now).map_err(|error| format!("{}: {error}", self.name))?;
        let report = self.trainer.verify_frozen().unwrap();
        assert_eq!((report.changed(), &report.first_changed), (0, &None), "{}:\n{report}", self.name);
        assert_eq!(report.frozen(), self.trainer.frozen_count(), "{}", self.name);
        self.check_trainable(&now);
        self.last = now;
        Ok(())
    }

    /// Checks that all trainable elements are NaN if some frozen weights are not finite; otherwise that at
    /// least 90 % of the trainable weights of each tensor changed, and some state in each slot.
    fn check_trainable(&self, now: &Snapshot) {
        let non_finite = self.trainer.frozen_count() > 0
            && self.bits.iter().any(|&bits| !f32::from_bits(bits).is_finite());
        let mut state_changed = vec![0; self.trainer.state_slots().len()];
        for (number, (path, len)) in self.paths().iter().enumerate() {
            let mask = self.trainer.mask(path).unwrap();
            let trainable = || (0..*len).filter(|&i| !mask.is_frozen(i));
            for (column, (old, new)) in self.last.0[number].iter().zip(&now.0[number]).enumerate() {
                let context = format!("{}: {path}, column {column}", self.name);
                let value = |i: usize| f32::from_bits(new[i]);
                if non_finite {
                    assert!(
                        trainable().all(|i| value(i).is_nan()),
                        "{context}: a trainable element is not NaN"
                    );
                    continue;
                }
                assert!(trainable().all(|i| value(i).is_finite()), "{context}: not finite");
                let changed = trainable().filter(|&i| old[i] != new[i]).count();
                match column.checked_sub(1) {
                    None => assert!(
                        changed * 10 >= trainable().count() * 9 && changed > 0,
                        "{context}: {changed} changed"
                    ),
                    // AMSGrad's maximum of the second moment may stay the same.
                    Some(slot) => state_changed[slot] += changed,
                }
            }
        }
        assert!(
            non_finite || state_changed.iter().all(|&changed| changed > 0),
            "{}: {state_changed:?}",
            self.name
        );
    }

    fn freeze_preset(&mut self) {
        for (number, (path, len)) in self.paths().into_iter().enumerate() {
            let mask = mask_of(Part::Preset, len);
            let values: Vec<f32> = (0..len).map(|i| f32::from_bits(self.bits[i % self.bits.len()])).collect();
            // No kernel may read the state of a frozen element, so NaN bits have no effect.
            write_state_bits(&self.trainer, number, &mask, &ODD_BITS);
            self.trainer.set_and_freeze(&path, &values, &mask).unwrap();
            let weights = self.trainer.store().read_weights(ParameterId::of(number)).unwrap();
            let equal = mask.frozen_indices().all(|i| weights[i] == self.bits[i % self.bits.len()]);
            assert!(equal, "{}: {path} was not set", self.name);
        }
        self.last = snapshot(&self.trainer);
    }

    fn freeze(&mut self) {
        for (path, len) in self.paths() {
            let mask = mask_of(Part::Frozen, len);
            let count = self.trainer.freeze(&path, FreezeRule::mask(mask.clone())).unwrap();
            assert_eq!(count, mask.frozen_count(), "{}: {path}", self.name);
        }
        assert!(snapshot(&self.trainer) == self.last, "{}: freezing changed a bit", self.name);
    }

    /// Thaws, and checks that no bit changes except the state of thawed elements under
    /// [`ThawPolicy::ZeroState`].
    fn thaw(&mut self, policy: ThawPolicy) {
        for (number, (path, len)) in self.paths().into_iter().enumerate() {
            let mask = mask_of(Part::Frozen, len);
            let count = self.trainer.thaw(&path, FreezeRule::mask(mask.clone()), policy).unwrap();
            assert_eq!(count, mask.frozen_count(), "{}: {path}", self.name);
            if policy == ThawPolicy::ZeroState {
                let state = &mut self.last.0[number][1..];
                state.iter_mut().for_each(|slot| mask.frozen_indices().for_each(|i| slot[i] = 0));
            }
        }
        assert!(snapshot(&self.trainer) == self.last, "{}: thawing changed another bit", self.name);
    }

    fn corrupt(&mut self, column: usize) {
        let (store, id) = (self.trainer.store(), ParameterId::of(2));
        let index = self.trainer.mask("fc.kernel").unwrap().frozen_indices().nth(40).unwrap();
        match column.checked_sub(1) {
            None => {
                let mut bits = store.read_weights(id).unwrap();
                bits[index] ^= 1;
                store.write_weights(id, &bits).unwrap();
            }
            Some(slot) => {
                let mut bits = store.read_state(slot, id).unwrap();
                bits[index] ^= 1;
                store.write_state(slot, id, &bits).unwrap();
            }
        }
    }
}

/// Runs all rules, modifiers, scenarios and GEMM families with [`Part::Preset`] frozen at these bits.
fn run_matrix(bits: &'static [u32]) {
    let mut runs = 0;
    for (rule, make) in RULES {
        for modifiers in &MODIFIERS {
            for (scenario, events) in SCENARIOS {
                for family in families() {
                    let name = format!("{rule}, {}, {scenario}, {family:?}", modifiers.name);
                    let mut run = Run::new(name, make, modifiers, family, bits);
                    run.run(events).unwrap_or_else(|error| panic!("{error}"));
                    runs += 1;
                }
            }
        }
    }
    assert_eq!(runs, 12 * 6 * 5 * families().len());
}

#[test]
fn frozen_bits_are_kept_while_trainable_elements_become_nan() {
    run_matrix(&ODD_BITS);
}

#[test]
fn frozen_bits_are_kept_while_trainable_elements_train() {
    run_matrix(&FINITE_BITS);
}

/// A flipped bit of a frozen weight or state element fails a scenario, and the error names it.
#[test]
fn matrix_detects_one_changed_bit() {
    for (rule, make) in RULES {
        let run = |column| {
            let mut run = Run::new(rule.into(), make, &MODIFIERS[0], families()[0], &FINITE_BITS);
            let slots = run.trainer.state_slots().len();
            (run.run(&[FreezePreset, Freeze, Corrupt(column), Train]), slots)
        };
        let (result, slots) = run(0);
        let message = result.unwrap_err();
        assert!(message.contains("weight") && message.contains("of fc.kernel"), "{message}");
        for slot in 1..=slots {
            let message = run(slot).0.unwrap_err();
            assert!(message.contains(&format!("state {}", slot - 1)), "{rule}: {message}");
        }
    }
}
