//! Tests every combination of update rule, modifier (such as weight decay or clipping) and scenario, in which
//! masks are set, extended and thawed during training: frozen weights and their optimizer state keep their
//! bits, and trainable elements change.

use crate::support::device::{families, gpu};
use crate::support::training::*;
use frazil::low_level::GemmFamily;
use frazil::low_level::ParameterId;
use frazil::{
    Adagrad, Adam, AdamW, Batch, Clip, FreezeRule, Loss, Mask, Model, Optimizer, RmsProp, Sgd, ThawPolicy,
    Trainer,
};

/// Creates an optimizer with the given weight decay.
type Rule = fn(f64) -> Optimizer;

/// The update rules: one for each update kernel and for each branch within a kernel.
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

/// Modifiers of an update: weight decay, clipping and gradient accumulation.
struct Modifiers {
    name: &'static str,
    decay: f64,
    clip: Option<Clip>,
    /// Number of batches whose gradients are accumulated for one update.
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
    /// Trains some steps and checks that no frozen bit changes.
    Train,
    /// Sets the elements of [`Part::Preset`] to given weights and state, and freezes them.
    FreezePreset,
    /// Freezes the elements of [`Part::Frozen`] at their present weights.
    Freeze,
    /// Thaws the elements of [`Part::Frozen`].
    Thaw(ThawPolicy),
    /// Flips one bit of a frozen element in the parameter store: in its weight for `Corrupt(0)`, in slot n -
    /// 1 of its optimizer state for `Corrupt(n)`. Shows that the checks detect it.
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

/// Bits of weights that float arithmetic may not preserve, with a finite loss: -0.0, the smallest and the
/// largest subnormal, 1 + 1 ulp, and 100, which is so large that every softmax is saturated.
const FINITE_BITS: [u32; 5] = [0x8000_0000, 0x0000_0001, 0x807f_ffff, 0x3f80_0001, 0x42c8_0001];

/// Role of an element in a scenario. Every tensor has elements of all three roles, next to each other, so
/// that the vec4s that update kernels process contain frozen and trainable elements.
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

/// A model whose gradients are never exactly 0, so that trainable elements change: it uses leaky ReLU, and is
/// trained with label smoothing in case the softmax is saturated.
fn model() -> Model {
    Model::input([4, 4, 1])
        .conv2d("conv", 4, [3, 3], |c| c.padding(frazil::Padding::Same))
        .leaky_relu(0.1)
        .flatten()
        .dense("fc", 3)
        .build()
        .unwrap()
}

/// Returns three batches of 4 rows and one of 3.
fn batches() -> Vec<Batch> {
    let data = frazil::data::synthetic("synthetic", [4, 4, 1], 3, 15, 11).unwrap();
    data.batches(4, 5).unwrap().collect()
}

/// A trainer for one combination of update rule, modifiers, scenario and GEMM family.
struct Run {
    name: String,
    trainer: Trainer,
    /// Bits to which the weights of [`Part::Preset`] are set.
    bits: &'static [u32],
    /// Number of batches whose gradients are accumulated for one update.
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
    /// Returns a message that names the frozen element that changed.
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

    /// Checks that training changed the trainable elements. If some frozen weights are not finite, all
    /// trainable elements must be NaN; otherwise at least 90 % of the trainable weights of each tensor must
    /// change, and some state in each slot.
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
                    // AMSGrad's maximum of the second moment may stay the same for one tensor, so changes of
                    // state are counted per slot.
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
            // No kernel may use the optimizer state of a frozen element, so NaN bits in this state must have
            // no effect.
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

    /// Thaws [`Part::Frozen`] and checks that no bit changes, except the state of thawed elements under
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

/// Runs all combinations of update rule, modifiers, scenario and GEMM family, with the weights of
/// [`Part::Preset`] set to these bits.
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

/// Checks the test itself: one flipped bit of a frozen weight or of its state fails a scenario, and the error
/// names it.
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
