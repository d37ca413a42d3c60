//! Every update rule, with everything that acts on an update, under masks that come, grow and go: a frozen element's weight
//! and state keep their bits, and what is trainable moves.

use crate::support::device::{families, gpu};
use crate::support::training::*;
use frazil::graph::ParameterId;
use frazil::kernels::GemmFamily;
use frazil::{
    Adagrad, Adam, AdamW, Batch, Clip, FreezeRule, Loss, Mask, Model, Optimizer, RmsProp, Sgd, ThawPolicy,
    Trainer,
};

/// A rule that is still to be given its weight decay.
type Rule = fn(f64) -> Optimizer;

/// Every rule, by the kernel and the branch of it that it takes.
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

/// What acts on an update besides its rule.
struct Addition {
    name: &'static str,
    decay: f64,
    clip: Option<Clip>,
    /// Batches of one update.
    batches: usize,
}

const ADDITIONS: [Addition; 6] = [
    Addition { name: "plain", decay: 0.0, clip: None, batches: 1 },
    Addition { name: "decay", decay: 0.1, clip: None, batches: 1 },
    Addition { name: "clip by norm", decay: 0.0, clip: Some(NORM), batches: 1 },
    Addition { name: "clip by value", decay: 0.0, clip: Some(Clip::Value { limit: 0.01 }), batches: 1 },
    Addition { name: "accumulation", decay: 0.0, clip: None, batches: 2 },
    Addition { name: "decay, clip, accumulation", decay: 0.1, clip: Some(NORM), batches: 2 },
];

const NORM: Clip = Clip::Norm { max: 0.5, over_all: false };

/// What happens to a trainer.
enum Event {
    /// Some steps, over which frozen bits are compared.
    Train,
    /// [`Part::Planted`] is frozen at given weights, with given state.
    Plant,
    /// [`Part::Held`] is frozen as it is.
    Freeze,
    /// [`Part::Held`] is thawed.
    Thaw(ThawPolicy),
    /// One bit of a frozen element is turned behind the trainer's back: in the weights, or in a slot counted from 1.
    Corrupt(usize),
}

use Event::{Corrupt, Freeze, Plant, Thaw, Train};

const LIVES: [(&str, &[Event]); 5] = [
    ("mask at step 0", &[Plant, Freeze, Train]),
    ("mask mid-run", &[Train, Plant, Freeze, Train]),
    ("mask grown mid-run", &[Plant, Train, Freeze, Train]),
    ("thawed with its state", &[Plant, Freeze, Train, Thaw(ThawPolicy::KeepState), Train]),
    ("thawed without its state", &[Plant, Freeze, Train, Thaw(ThawPolicy::ZeroState), Train]),
];

/// Weights that float arithmetic does not keep, and that leave the loss finite: -0.0, the smallest and the largest
/// subnormal, a last bit, and one so large that every softmax is saturated.
const FINITE_BITS: [u32; 5] = [0x8000_0000, 0x0000_0001, 0x807f_ffff, 0x3f80_0001, 0x42c8_0001];

/// What an element is for. All three are in every tensor, and side by side in the quads that kernels update.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Part {
    Planted,
    Held,
    Free,
}

fn part(index: usize) -> Part {
    use Part::{Free, Held, Planted};
    [Planted, Held, Free, Planted, Free, Free, Held][index % 7]
}

fn mask_of(which: Part, len: usize) -> Mask {
    Mask::from_frozen((0..len).map(|index| part(index) == which))
}

/// No element of it has a gradient of 0: leaky, and with smoothed labels also where the softmax is saturated.
fn model() -> Model {
    Model::input([4, 4, 1])
        .conv2d("conv", 4, [3, 3], |c| c.padding(frazil::Padding::Same))
        .leaky_relu(0.1)
        .flatten()
        .dense("fc", 3)
        .build()
        .unwrap()
}

/// Batches of 4 rows, one of 3.
fn batches() -> Vec<Batch> {
    let data = frazil::data::synthetic("synthetic", [4, 4, 1], 3, 15, 11).unwrap();
    data.batches(4, 5).unwrap().collect()
}

/// One run.
struct Run {
    name: String,
    trainer: Trainer,
    /// Bits of planted weights.
    bits: &'static [u32],
    /// Batches of one update.
    together: usize,
    batches: Vec<Batch>,
    /// Everything after the last event that may change it.
    last: Snapshot,
}

impl Run {
    fn new(name: String, rule: Rule, addition: &Addition, family: GemmFamily, bits: &'static [u32]) -> Self {
        let mut optimizer = rule(addition.decay);
        if let Some(clip) = addition.clip {
            optimizer = optimizer.clip(clip);
        }
        let options = going_on_with(4).family(family).accumulate(addition.batches > 1);
        let loss = Loss::cross_entropy().label_smoothing(0.3);
        let trainer = Trainer::new(gpu(), model(), loss, optimizer, options).unwrap();
        let last = snapshot(&trainer);
        Run { name, trainer, bits, together: addition.batches, batches: batches(), last }
    }

    fn paths(&self) -> Vec<(String, usize)> {
        let all = self.trainer.model().parameters();
        all.iter().map(|p| (p.path.clone(), p.shape.elements())).collect()
    }

    /// # Errors
    /// The frozen element that changed.
    fn live(&mut self, events: &[Event]) -> Result<(), String> {
        for event in events {
            match event {
                Train => self.train()?,
                Plant => self.plant(),
                Freeze => self.freeze(),
                Thaw(policy) => self.thaw(*policy),
                Corrupt(column) => self.corrupt(*column),
            }
        }
        Ok(())
    }

    fn train(&mut self) -> Result<(), String> {
        for pair in self.batches.windows(2) {
            self.trainer.step_over(&pair[..self.together]).unwrap();
        }
        let now = snapshot(&self.trainer);
        check_frozen(&self.trainer, &self.last, &now).map_err(|wrong| format!("{}: {wrong}", self.name))?;
        let proof = self.trainer.verify_frozen().unwrap();
        assert_eq!((proof.changed(), &proof.first_changed), (0, &None), "{}:\n{proof}", self.name);
        assert_eq!(proof.frozen(), self.trainer.frozen_count(), "{}", self.name);
        self.check_trainable(&now);
        self.last = now;
        Ok(())
    }

    /// That all that trains is NaN if a NaN is planted; else that nearly all weights of each tensor have moved, and some
    /// state in each slot.
    fn check_trainable(&self, now: &Snapshot) {
        let poisoned = self.trainer.frozen_count() > 0
            && self.bits.iter().any(|&bits| !f32::from_bits(bits).is_finite());
        let mut state_moved = vec![0; self.trainer.state_slots().len()];
        for (number, (path, len)) in self.paths().iter().enumerate() {
            let mask = self.trainer.mask(path).unwrap();
            let free = || (0..*len).filter(|&i| !mask.is_frozen(i));
            for (column, (old, new)) in self.last.0[number].iter().zip(&now.0[number]).enumerate() {
                let at = format!("{}: {path}, column {column}", self.name);
                let value = |i: usize| f32::from_bits(new[i]);
                if poisoned {
                    assert!(free().all(|i| value(i).is_nan()), "{at}: the poison did not arrive");
                    continue;
                }
                assert!(free().all(|i| value(i).is_finite()), "{at}: not finite");
                let moved = free().filter(|&i| old[i] != new[i]).count();
                match column.checked_sub(1) {
                    None => assert!(moved * 10 >= free().count() * 9 && moved > 0, "{at}: {moved} moved"),
                    // One element's largest second moment may well stay.
                    Some(slot) => state_moved[slot] += moved,
                }
            }
        }
        assert!(poisoned || state_moved.iter().all(|&moved| moved > 0), "{}: {state_moved:?}", self.name);
    }

    fn plant(&mut self) {
        for (number, (path, len)) in self.paths().into_iter().enumerate() {
            let mask = mask_of(Part::Planted, len);
            let values: Vec<f32> = (0..len).map(|i| f32::from_bits(self.bits[i % self.bits.len()])).collect();
            // State that nobody may read: the oddest bits do no harm.
            plant_state(&self.trainer, number, &mask, &ODD_BITS);
            self.trainer.set_and_freeze(&path, &values, &mask).unwrap();
            let weights = self.trainer.store().read_weights(ParameterId::of(number)).unwrap();
            let planted = mask.frozen_indices().all(|i| weights[i] == self.bits[i % self.bits.len()]);
            assert!(planted, "{}: {path} was not planted", self.name);
        }
        self.last = snapshot(&self.trainer);
    }

    fn freeze(&mut self) {
        for (path, len) in self.paths() {
            let mask = mask_of(Part::Held, len);
            let count = self.trainer.freeze(&path, FreezeRule::mask(mask.clone())).unwrap();
            assert_eq!(count, mask.frozen_count(), "{}: {path}", self.name);
        }
        assert!(snapshot(&self.trainer) == self.last, "{}: freezing changed a bit", self.name);
    }

    /// Changes no bit but the state of what is thawed, and that only if told to.
    fn thaw(&mut self, policy: ThawPolicy) {
        for (number, (path, len)) in self.paths().into_iter().enumerate() {
            let mask = mask_of(Part::Held, len);
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

/// All rules, additions, lives and families, with these bits planted.
fn matrix(bits: &'static [u32]) {
    let mut runs = 0;
    for (rule, make) in RULES {
        for addition in &ADDITIONS {
            for (life, events) in LIVES {
                for family in families() {
                    let name = format!("{rule}, {}, {life}, {family:?}", addition.name);
                    let mut run = Run::new(name, make, addition, family, bits);
                    run.live(events).unwrap_or_else(|wrong| panic!("{wrong}"));
                    runs += 1;
                }
            }
        }
    }
    assert_eq!(runs, 12 * 6 * 5 * families().len());
}

#[test]
fn frozen_bits_stay_while_everything_else_becomes_nan() {
    matrix(&ODD_BITS);
}

#[test]
fn frozen_bits_stay_while_everything_else_trains() {
    matrix(&FINITE_BITS);
}

/// The matrix can fail: a turned bit of any weight or state is found by the same comparison, and named.
#[test]
fn the_matrix_sees_one_wrong_bit() {
    for (rule, make) in RULES {
        let run = |column| {
            let mut run = Run::new(rule.into(), make, &ADDITIONS[0], families()[0], &FINITE_BITS);
            let slots = run.trainer.state_slots().len();
            (run.live(&[Plant, Freeze, Corrupt(column), Train]), slots)
        };
        let (wrong, slots) = run(0);
        let message = wrong.unwrap_err();
        assert!(message.contains("weight") && message.contains("of fc.kernel"), "{message}");
        for slot in 1..=slots {
            let message = run(slot).0.unwrap_err();
            assert!(message.contains(&format!("state {}", slot - 1)), "{rule}: {message}");
        }
    }
}
