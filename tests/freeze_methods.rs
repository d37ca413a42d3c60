//! Tests of masks that are computed from values and change during training: regression tests of the freezing
//! failures F4, F18, F19 and F20 (docs/masks.md), and rewinding.

use crate::support::training::*;
use frazil::mask::MaskSchedule;
use frazil::trainer::{FreezeOnPlateau, GradientPolicy, RewindState};
use frazil::{Error, FreezeRule, Mask, Sgd, ThawPolicy};

const KERNEL: &str = "fc.kernel";

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Regression test F4 (docs/masks.md): a mask from values selects by magnitude and is computed once. A mask
/// recomputed from values at each step would freeze all negative weights, or weights that pass through 0.
#[test]
fn f4_mask_from_values_is_by_magnitude_and_computed_once() {
    let mut t = trainer(Sgd::new(0.05).momentum(0.9).into(), continuing());
    let weights = t.parameter(KERNEL).unwrap();
    let pruned = t.prune(KERNEL, FreezeRule::smallest(0.3)).unwrap();
    assert_eq!(pruned, (0.3 * weights.len() as f64).round() as usize);
    let mask = t.mask(KERNEL).unwrap().clone();
    let largest = mask.frozen_indices().map(|i| weights[i].abs()).fold(0.0, f32::max);
    let kept: Vec<f32> = mask.complement().frozen_indices().map(|i| weights[i]).collect();
    assert!(kept.iter().all(|w| w.abs() >= largest) && kept.iter().any(|&w| w < 0.0));

    // A trainable weight that is set to exactly 0 stays trainable.
    let zero = mask.complement().frozen_indices().next().unwrap();
    let mut values = t.parameter(KERNEL).unwrap();
    values[zero] = 0.0;
    t.set_parameter(KERNEL, &values).unwrap();
    let before = snapshot(&t);
    train(&mut t, 5);
    assert_eq!(t.mask(KERNEL).unwrap(), &mask);
    assert_ne!(t.parameter(KERNEL).unwrap()[zero], 0.0);
    assert_frozen("F4", &t, &before);
    assert!(mask.frozen_indices().all(|i| t.parameter(KERNEL).unwrap()[i].to_bits() == 0));
}

/// Regression test F18 (docs/masks.md): a mask change must apply from the next step on, not one step earlier
/// or later.
#[test]
fn f18_mask_applies_from_the_next_step_on() {
    for (name, optimizer) in optimizers() {
        let mut t = trainer(optimizer, continuing());
        let schedule = MaskSchedule::polynomial(0.0, 0.6).begin(2).end(6).every(2);
        let len = t.mask(KERNEL).unwrap().len();
        let mut counts = Vec::new();
        for batch in batches(9) {
            if let Some(fraction) = schedule.at(t.steps()) {
                t.prune(KERNEL, FreezeRule::smallest(fraction)).unwrap();
            }
            let before = snapshot(&t);
            t.step(&batch).unwrap();
            counts.push(t.mask(KERNEL).unwrap().frozen_count());
            check_frozen(&t, &before, &snapshot(&t)).unwrap_or_else(|m| panic!("{name}: {m}"));
            let (moved, trainable) = moved(&t, &before);
            assert!(moved * 10 > trainable * 8, "{name}: {moved} of {trainable} changed");
        }
        let expected_count = |t: f64| ((0.6 - 0.6 * (1.0 - t).powi(3)) * len as f64).round() as usize;
        let (middle, last) = (expected_count(0.5), expected_count(1.0));
        assert_eq!(counts, [0, 0, 0, 0, middle, middle, last, last, last], "{name}");
        assert_eq!(t.verify_frozen().unwrap().changed(), 0, "{name}");
    }
}

/// Regression test F19 (docs/masks.md): regrowing must thaw exactly the requested number of weights, despite
/// ties and weights that are already trainable. Otherwise the density decreases with each iteration.
#[test]
fn f19_regrowing_thaws_exactly_the_requested_count() {
    let options = continuing().keep_gradients(true).gradient_policy(GradientPolicy::Dense);
    let mut t = trainer(Sgd::new(0.05).momentum(0.9).into(), options);
    t.prune(KERNEL, FreezeRule::random(0.5)).unwrap();
    let frozen = t.mask(KERNEL).unwrap().frozen_count();
    let len = t.mask(KERNEL).unwrap().len();
    for (iteration, tied) in [false, true, false, true].into_iter().enumerate() {
        train(&mut t, 3);
        // Tests the two cases in which too few weights could be regrown: all scores are equal (ties), or the
        // largest gradients belong to weights that are already trainable.
        let scores = if tied { vec![0.0; len] } else { t.gradient(KERNEL).unwrap() };
        let candidates = t.mask(KERNEL).unwrap().clone();
        let before = t.parameter(KERNEL).unwrap();
        let dropped = t.prune(KERNEL, FreezeRule::smallest(0.0).count(17).among_trainable()).unwrap();
        // The candidates for regrowing are the weights that were frozen before this iteration's drop, so that
        // dropped weights are not regrown at once.
        let grow = FreezeRule::largest(0.0).count(17).among_frozen().scores(scores.clone());
        let view = frazil::mask::TensorView { path: KERNEL, shape: &[len], bits: None, frozen: &candidates };
        let grown = grow.resolve_all(&[view]).unwrap().remove(0);
        let thawed = t.thaw(KERNEL, FreezeRule::mask(grown.clone()), ThawPolicy::ZeroState).unwrap();
        assert_eq!(
            (dropped, thawed, t.mask(KERNEL).unwrap().frozen_count()),
            (17, 17, frozen),
            "iteration {iteration}"
        );
        let (weights, state) = (t.parameter(KERNEL).unwrap(), t.state(KERNEL, 0).unwrap());
        for i in grown.frozen_indices() {
            assert!(candidates.is_frozen(i) && before[i].to_bits() == 0);
            assert_eq!(
                (weights[i].to_bits(), state[i].to_bits()),
                (0, 0),
                "a regrown weight starts at 0 with zero state"
            );
        }
        let least = grown.frozen_indices().map(|i| scores[i].abs()).fold(f32::INFINITY, f32::min);
        let rest = candidates.difference(&grown).unwrap();
        assert!(rest.frozen_indices().all(|i| scores[i].abs() <= least), "iteration {iteration}");
    }
    let more = FreezeRule::smallest(0.0).count(len).among_frozen();
    assert!(matches!(t.thaw(KERNEL, more, ThawPolicy::KeepState), Err(Error::InvalidArgument { .. })));
    assert_eq!(t.mask(KERNEL).unwrap().frozen_count(), frozen);
}

/// Regression test F20 (docs/masks.md): later set-up calls must not thaw what was frozen before.
#[test]
fn f20_later_set_up_does_not_thaw() {
    let mut t = trainer(Sgd::new(0.05).momentum(0.9).weight_decay(0.1).into(), continuing());
    t.freeze("*", FreezeRule::random(0.4).seed(3)).unwrap();
    let (masks, before) = (masks(&t), snapshot(&t));
    let start = t.snapshot().unwrap();
    t.set_learning_rate(0.01).unwrap();
    let values = vec![1.0; t.mask(KERNEL).unwrap().len()];
    t.set_parameter(KERNEL, &values).unwrap();
    t.set_state(KERNEL, 0, &values).unwrap();
    for rule in [FreezeRule::none(), FreezeRule::smallest(0.0), FreezeRule::where_equal(1e30)] {
        assert_eq!(t.freeze("*", rule.clone()).unwrap(), 0);
        assert_eq!(t.prune("*", rule).unwrap(), 0);
    }
    train(&mut t, 2);
    for state in [RewindState::Keep, RewindState::Zero, RewindState::Restore] {
        t.rewind(&start, state).unwrap();
    }
    t.metrics().unwrap();
    assert!(t.freeze("nothing*", FreezeRule::all()).is_err());
    assert_eq!(self::masks(&t), masks);
    train(&mut t, 3);
    assert_eq!(self::masks(&t), masks);
    assert_frozen("F20", &t, &before);
}

fn masks(t: &frazil::Trainer) -> Vec<Mask> {
    t.model().parameters().iter().map(|p| t.mask(&p.path).unwrap().clone()).collect()
}

#[test]
fn pruning_keeps_elements_that_are_already_frozen() {
    let mut t = trainer(Sgd::new(0.05).into(), continuing());
    t.freeze("conv.kernel", FreezeRule::filters_at([1])).unwrap();
    let before = bits(&t.parameter("conv.kernel").unwrap());
    assert_eq!(t.prune("conv.kernel", FreezeRule::filters_at([1, 3])).unwrap(), 18);
    let after = bits(&t.parameter("conv.kernel").unwrap());
    for i in 0..before.len() {
        assert_eq!(after[i], if i % 5 == 3 { 0 } else { before[i] }, "element {i}");
    }
    assert_eq!(t.verify_frozen().unwrap().changed(), 0);
}

#[test]
fn global_pruning_counts_over_all_matching_tensors() {
    let mut t = trainer(Sgd::new(0.05).into(), continuing());
    let kernels = ["conv.kernel", KERNEL];
    let total: usize = kernels.iter().map(|k| t.mask(k).unwrap().len()).sum();
    let pruned = t.prune("*.kernel", FreezeRule::smallest(0.5).global()).unwrap();
    assert_eq!(pruned, total / 2);
    let halves = kernels.map(|k| t.mask(k).unwrap().frozen_count() * 2 == t.mask(k).unwrap().len());
    assert_ne!(halves, [true, true], "half of each tensor was pruned");
}

/// A rewind that restores the optimizer state makes training repeat bit for bit, and does not change frozen
/// elements.
#[test]
fn rewind_restores_trainable_elements_only() {
    for (name, optimizer) in optimizers() {
        let mut t = trainer(optimizer, continuing());
        train(&mut t, 4);
        let start = t.snapshot().unwrap();
        train(&mut t, 6);
        let expected = snapshot(&t);
        t.rewind(&start, RewindState::Restore).unwrap();
        assert_eq!((t.snapshot().unwrap() == start, t.steps()), (true, 4), "{name}");
        train(&mut t, 6);
        assert!(snapshot(&t) == expected, "{name}: training after the rewind differs");

        t.prune("*.kernel", FreezeRule::smallest(0.5)).unwrap();
        let frozen = snapshot(&t);
        t.rewind(&start, RewindState::Zero).unwrap();
        assert_frozen(name, &t, &frozen);
        let mask = t.mask(KERNEL).unwrap().clone();
        for slot in 0..t.state_slots().len() {
            let state = t.state(KERNEL, slot).unwrap();
            assert!(mask.complement().frozen_indices().all(|i| state[i].to_bits() == 0), "{name}");
        }
        assert!(moved(&t, &expected).0 > 0 && t.steps() == 0, "{name}");
    }
    let adam = trainer(frazil::Adam::new(0.1).into(), continuing());
    let mut sgd = trainer(Sgd::new(0.1).into(), continuing());
    let other = sgd.rewind(&adam.snapshot().unwrap(), RewindState::Keep);
    assert!(matches!(other, Err(Error::ShapeMismatch { .. })));
}

#[test]
fn freeze_on_plateau_freezes_the_next_layer() {
    let mut t = trainer(Sgd::new(0.05).into(), continuing());
    let mut plateau = FreezeOnPlateau::new(&["conv.*", "fc.*"], 2, 0.1).unwrap();
    let losses = [2.0, 1.5, 1.45, 1.0, 0.95, f64::NAN, 0.94, 0.93, 0.9, 0.9];
    let frozen: Vec<_> = losses.iter().map(|&loss| plateau.observe(&mut t, loss).unwrap()).collect();
    let at = |i: usize| frozen[i].as_deref();
    assert_eq!((at(5), at(7), at(9)), (Some("conv.*"), Some("fc.*"), None));
    assert_eq!(frozen.iter().flatten().count(), 2);
    assert_eq!(t.frozen_count(), masks(&t).iter().map(Mask::len).sum::<usize>());
    assert!(FreezeOnPlateau::new(&[], 0, 0.1).is_err() && FreezeOnPlateau::new(&[], 1, f64::NAN).is_err());
}
