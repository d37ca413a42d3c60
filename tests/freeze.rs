//! Tests of the freeze API, and regression tests of the freezing failures F1 to F15 that are listed in
//! docs/masks.md. Weights and state are compared by their bits, as u32.

use crate::support::training::*;
use frazil::low_level::ParameterId;
use frazil::{Error, FreezeRule, Mask, Sgd, ThawPolicy, TrainerOptions};

fn random_half() -> FreezeRule {
    FreezeRule::random(0.5).seed(1)
}

/// Regression test F1 (docs/masks.md): weight decay must not change frozen weights, although it acts even
/// where the gradient is 0.
#[test]
fn f1_weight_decay_does_not_change_frozen_weights() {
    for (name, optimizer) in optimizers() {
        let mut t = trainer(optimizer.clone(), continuing());
        t.freeze("*", random_half()).unwrap();
        let before = snapshot(&t);
        train(&mut t, 12);
        assert_frozen(name, &t, &before);
        let (moved, trainable) = moved(&t, &before);
        assert!(moved * 10 > trainable * 9, "{name}: {moved} of {trainable} trainable elements changed");

        // Repeats the test with every element frozen.
        let mut t = trainer(optimizer, continuing());
        t.freeze("*", FreezeRule::all()).unwrap();
        let before = snapshot(&t);
        train(&mut t, 5);
        assert_frozen(name, &t, &before);
    }
}

/// Regression test F2 (docs/masks.md): momentum or Adam state from before the freeze must not change frozen
/// weights.
#[test]
fn f2_optimizer_state_from_before_the_freeze_has_no_effect() {
    for (name, optimizer) in optimizers() {
        let mut t = trainer(optimizer, continuing());
        train(&mut t, 10);
        t.freeze("*", random_half()).unwrap();
        let before = snapshot(&t);
        if !t.state_slots().is_empty() {
            // Checks that most frozen elements have a nonzero momentum, which would change them if it were
            // applied.
            let mask = t.mask("fc.kernel").unwrap();
            let nonzero = mask.frozen_indices().filter(|&i| f32::from_bits(before.0[2][1][i]) != 0.0).count();
            assert!(nonzero * 2 > mask.frozen_count(), "{name}: {nonzero}");
        }
        train(&mut t, 20);
        assert_frozen(name, &t, &before);
        assert!(moved(&t, &before).0 > 0, "{name}");
    }
}

/// Regression test F3 (docs/masks.md): Adam's rescaling of the gradient must not reach frozen elements. It
/// does so in methods that project the gradient onto the trainable subspace before Adam rescales it.
#[test]
fn f3_adaptive_rescaling_does_not_reach_frozen_elements() {
    for (name, optimizer) in optimizers().into_iter().filter(|(name, _)| name.starts_with("adam")) {
        let mut t = trainer(optimizer, continuing());
        t.freeze("*.kernel", random_half()).unwrap();
        let before = snapshot(&t);
        train(&mut t, 20);
        assert_frozen(name, &t, &before);
        for path in ["conv.kernel", "fc.kernel"] {
            let mask = t.mask(path).unwrap().clone();
            for slot in 0..2 {
                let state = t.state(path, slot).unwrap();
                // Adam's moments of frozen elements stay 0.
                assert!(mask.frozen_indices().all(|i| state[i].to_bits() == 0), "{name} {path}");
                assert!((0..mask.len()).any(|i| !mask.is_frozen(i) && state[i] != 0.0), "{name} {path}");
            }
        }
    }
}

/// Regression test F5 (docs/masks.md): frozen weights must also be unchanged in the parameter store and in
/// checkpoints. A mask that is applied only in the forward pass does not ensure this.
#[test]
fn f5_checkpoint_contains_the_frozen_bits() {
    let folder = std::env::temp_dir().join(format!("frazil-f5-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, optimizer) in optimizers() {
        let mut t = trainer(optimizer, continuing());
        freeze_half_at(&mut t, &ODD_FINITE_BITS);
        let before = snapshot(&t);
        train(&mut t, 8);
        let file = folder.join("f5.safetensors");
        t.save(&file).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        t.save(&file).unwrap();
        assert!(bytes == std::fs::read(&file).unwrap(), "{name}: equal checkpoints differ as files");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (index, parameter) in t.model().parameters().iter().enumerate() {
            let raw = words(tensors.tensor(&parameter.path).unwrap().data());
            let mask = t.mask(&parameter.path).unwrap();
            assert!(
                mask.frozen_indices().all(|i| raw[i] == before.0[index][0][i]),
                "{name} {}",
                parameter.path
            );
            assert!((0..mask.len()).any(|i| raw[i] != before.0[index][0][i]), "{name}: nothing was trained");
            let stored = words(tensors.tensor(&format!("mask.{}", parameter.path)).unwrap().data());
            assert_eq!(stored, mask.words());
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Regression test F7 (docs/masks.md): frozen elements must not become NaN through `0 * NaN = NaN`. One NaN
/// or infinite input makes every gradient NaN.
#[test]
fn f7_nan_and_infinite_gradients_do_not_reach_frozen_elements() {
    for (name, optimizer) in optimizers() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for bits in [&ODD_BITS[..], &ODD_FINITE_BITS[..]] {
                let mut t = trainer(optimizer.clone(), continuing());
                freeze_half_at(&mut t, bits);
                let before = snapshot(&t);
                let mut batch = batches(1).remove(0);
                batch.features[7] = value;
                for _ in 0..3 {
                    t.step(&batch).unwrap();
                }
                assert_frozen(name, &t, &before);
                // The trainable weights of the last layer must be NaN, which shows that NaN gradients were
                // applied.
                let bias = t.parameter("fc.bias").unwrap();
                let mask = t.mask("fc.bias").unwrap();
                assert!((0..4).any(|i| !mask.is_frozen(i) && bias[i].is_nan()), "{name}: {bias:?}");
            }
        }
    }
}

/// Regression test F9 (docs/masks.md): single elements, and not only whole tensors, can be frozen at any step
/// of the training.
#[test]
fn f9_single_elements_can_be_frozen_at_any_step() {
    for (name, optimizer) in optimizers() {
        let mut t = trainer(optimizer, continuing());
        let sizes: Vec<_> =
            t.model().parameters().iter().map(|p| (p.path.clone(), p.shape.elements())).collect();
        for stage in 0..6 {
            // Each stage freezes one more element of each tensor. The first two are the first and the last
            // element.
            for (path, len) in &sizes {
                let element = [0, len - 1, len / 2, 1, len / 3, 2][stage];
                let mask = Mask::from_frozen((0..*len).map(|i| i == element));
                t.freeze(path, FreezeRule::mask(mask)).unwrap();
            }
            let before = snapshot(&t);
            train(&mut t, 3);
            assert_frozen(&format!("{name} stage {stage}"), &t, &before);
            assert!(moved(&t, &before).0 > 0, "{name}");
        }
        assert!(t.frozen_count() < sizes.iter().map(|(_, len)| len).sum());
    }
}

/// Regression test F15 (docs/masks.md): pruned weights must stay 0 after the last update and in later
/// training stages.
#[test]
fn f15_frozen_zeros_stay_zero_through_later_stages() {
    for (name, optimizer) in optimizers() {
        let mut t = trainer(optimizer, continuing());
        let len = t.mask("conv.kernel").unwrap().len();
        let zeros = Mask::from_frozen((0..len).map(|i| i % 3 == 0));
        let signed: Vec<f32> = (0..len).map(|i| if i % 2 == 0 { 0.0 } else { -0.0 }).collect();
        t.set_and_freeze("conv.kernel", &signed, &zeros).unwrap();
        let check_zeros = |t: &frazil::Trainer, stage: &str| {
            let now = t.parameter("conv.kernel").unwrap();
            let changed = zeros.frozen_indices().find(|&i| now[i].to_bits() != signed[i].to_bits());
            assert_eq!(changed, None, "{name}: {stage}");
        };
        train(&mut t, 7);
        check_zeros(&t, "first stage");
        // The later stage freezes further elements, thaws them again, and changes the learning rate.
        t.freeze("*", random_half()).unwrap();
        train(&mut t, 3);
        let later = Mask::from_frozen((0..len).map(|i| i % 3 != 0));
        t.thaw("conv.kernel", FreezeRule::mask(later), ThawPolicy::ZeroState).unwrap();
        t.set_learning_rate(0.5).unwrap();
        train(&mut t, 4);
        check_zeros(&t, "later stage");
        assert_eq!(t.mask("conv.kernel").unwrap(), &zeros);
    }
}

#[test]
fn check_frozen_detects_one_changed_bit() {
    let mut t = trainer(Sgd::new(0.1).momentum(0.9).into(), continuing());
    t.freeze("*", random_half()).unwrap();
    let before = snapshot(&t);
    let frozen = t.mask("fc.kernel").unwrap().frozen_indices().nth(5).unwrap();
    for column in 0..2 {
        let mut after = before.clone();
        after.0[2][column][frozen] ^= 1;
        let message = check_frozen(&t, &before, &after).unwrap_err();
        assert!(message.contains(&format!("{frozen} of fc.kernel")), "{message}");
    }
}

#[test]
fn verify_frozen_reports_the_corrupted_element() {
    let mut t = trainer(Sgd::new(0.1).momentum(0.9).into(), continuing());
    t.freeze("*", random_half()).unwrap();
    train(&mut t, 5);
    let clean = t.verify_frozen().unwrap();
    let id = ParameterId::of(2);
    let index = t.mask("fc.kernel").unwrap().frozen_indices().nth(30).unwrap();

    let mut bits = t.store().read_weights(id).unwrap();
    bits[index] ^= 1 << 13;
    t.store().write_weights(id, &bits).unwrap();
    let report = t.verify_frozen().unwrap();
    assert_eq!((report.changed(), report.tensors[2].changed, report.frozen()), (1, 1, clean.frozen()));
    assert_ne!(report.digest, clean.digest);
    let first = report.first_changed.clone().unwrap();
    assert_eq!((first.path.as_str(), first.what.as_str(), first.index), ("fc.kernel", "weight", index));
    assert_eq!(first.coordinates, [index / 4, index % 4]);
    assert_eq!((first.got, first.expected), (bits[index], bits[index] ^ 1 << 13));
    assert!(report.to_string().contains("fc.kernel["), "{report}");

    // `verify_frozen` detects a flipped bit in the optimizer state of a frozen element.
    bits[index] ^= 1 << 13;
    t.store().write_weights(id, &bits).unwrap();
    assert_eq!(t.verify_frozen().unwrap(), clean);
    let mut state = t.store().read_state(0, id).unwrap();
    state[index] ^= 1;
    t.store().write_state(0, id, &state).unwrap();
    let first = t.verify_frozen().unwrap().first_changed.unwrap();
    assert_eq!((first.what.as_str(), first.index), ("momentum", index));

    // `verify_frozen` detects a cleared bit in the mask on the device.
    state[index] ^= 1;
    t.store().write_state(0, id, &state).unwrap();
    let mask = t.mask("fc.kernel").unwrap().clone();
    let without_index = Mask::from_frozen((0..mask.len()).map(|i| mask.is_frozen(i) && i != index));
    t.store().write_mask(id, &without_index).unwrap();
    let report = t.verify_frozen().unwrap();
    let first = report.first_changed.as_ref().unwrap();
    assert_eq!((report.changed(), first.what.as_str(), first.index), (1, "mask", index));
    t.store().write_mask(id, &mask).unwrap();
    state[index] ^= 1;

    // A changed trainable element is not an error for `verify_frozen`.
    state[index] ^= 1;
    t.store().write_state(0, id, &state).unwrap();
    let trainable = (0..bits.len()).find(|&i| !t.mask("fc.kernel").unwrap().is_frozen(i)).unwrap();
    bits[trainable] ^= 1;
    t.store().write_weights(id, &bits).unwrap();
    assert_eq!(t.verify_frozen().unwrap(), clean);
}

#[test]
fn digest_covers_weights_state_and_step() {
    let mut t = trainer(Sgd::new(0.1).momentum(0.9).into(), continuing());
    t.freeze("conv.kernel", random_half()).unwrap();
    train(&mut t, 2);
    let (digest, frozen) = (t.digest().unwrap(), t.verify_frozen().unwrap().digest);
    assert_eq!(t.digest().unwrap(), digest);
    for index in 0..4 {
        let id = ParameterId::of(index);
        for column in 0..2 {
            let read = |i| if column == 0 { t.store().read_weights(i) } else { t.store().read_state(0, i) };
            let write = |bits: &[u32]| {
                if column == 0 {
                    t.store().write_weights(id, bits)
                } else {
                    t.store().write_state(0, id, bits)
                }
            };
            let old = read(id).unwrap();
            let trainable =
                (0..old.len()).rfind(|&i| !t.mask(&t.model().parameters()[index].path).unwrap().is_frozen(i));
            let mut bits = old.clone();
            bits[trainable.unwrap()] ^= 1;
            write(&bits).unwrap();
            assert_ne!(t.digest().unwrap(), digest, "parameter {index}, column {column}");
            assert_eq!(t.verify_frozen().unwrap().digest, frozen);
            write(&old).unwrap();
        }
    }
    assert_eq!(t.digest().unwrap(), digest);
    // The digest includes the step count: a step with learning rate 0 changes nothing else, but changes the
    // digest.
    let mut unchanged = trainer(Sgd::new(0.0).into(), continuing());
    let before = unchanged.digest().unwrap();
    train(&mut unchanged, 1);
    assert_ne!(unchanged.digest().unwrap(), before);
}

#[test]
fn gradients_of_frozen_elements_are_zero_unless_the_policy_is_dense() {
    use frazil::trainer::GradientPolicy;
    let options = || TrainerOptions::batch(ROWS).seed(3).keep_gradients(true);
    let mut masked = trainer(Sgd::new(0.1).into(), options());
    let mut dense = trainer(Sgd::new(0.1).into(), options().gradient_policy(GradientPolicy::Dense));
    assert!(matches!(masked.gradient("fc.kernel"), Err(Error::GradientNotKept { .. })), "before any step");
    for t in [&mut masked, &mut dense] {
        t.freeze("*", random_half()).unwrap();
        train(t, 1);
    }
    for path in ["conv.kernel", "conv.bias", "fc.kernel", "fc.bias"] {
        let mask = masked.mask(path).unwrap();
        let (zeroed, full) = (masked.gradient(path).unwrap(), dense.gradient(path).unwrap());
        for i in 0..mask.len() {
            let expected = if mask.is_frozen(i) { 0 } else { full[i].to_bits() };
            assert_eq!(zeroed[i].to_bits(), expected, "{path} {i}");
        }
        assert!(mask.frozen_indices().any(|i| full[i] != 0.0), "{path}");
    }
    let mut none = trainer(Sgd::new(0.1).into(), TrainerOptions::batch(ROWS));
    train(&mut none, 1);
    assert!(matches!(none.gradient("fc.kernel"), Err(Error::GradientNotKept { .. })));
}

#[test]
fn freeze_adds_and_only_thaw_and_replace_mask_clear() {
    let mut t = trainer(Sgd::new(0.1).momentum(0.9).into(), continuing());
    assert_eq!(t.freeze("*.kernel", random_half()).unwrap(), 45 + 250);
    assert_eq!(t.freeze("*.kernel", random_half()).unwrap(), 0);
    t.freeze("*", FreezeRule::none()).unwrap();
    assert_eq!(t.frozen_count(), 295);
    let grown = t.freeze("fc.kernel", FreezeRule::random(0.5).seed(8)).unwrap();
    assert!(grown > 50);
    assert_eq!(grown, t.frozen_count() - 295);
    let more = t.frozen_count();
    assert_eq!(t.thaw("fc.*", FreezeRule::all(), ThawPolicy::KeepState).unwrap(), more - 45);
    t.replace_mask("conv.kernel", Mask::none(90).unwrap(), ThawPolicy::KeepState).unwrap();
    assert_eq!(t.frozen_count(), 0);
}

#[test]
fn thaw_keeps_or_zeroes_the_state_of_thawed_elements_only() {
    for policy in [ThawPolicy::KeepState, ThawPolicy::ZeroState] {
        let mut t = trainer(Sgd::new(0.1).momentum(0.9).into(), continuing());
        train(&mut t, 4);
        t.freeze("fc.kernel", random_half()).unwrap();
        train(&mut t, 2);
        let before = snapshot(&t);
        let frozen: Vec<_> = t.mask("fc.kernel").unwrap().frozen_indices().collect();
        let thawed = Mask::from_frozen((0..500).map(|i| frozen[..40].contains(&i)));
        assert_eq!(t.thaw("fc.kernel", FreezeRule::mask(thawed.clone()), policy).unwrap(), 40);
        let after = snapshot(&t);
        for i in 0..500 {
            let zeroed = policy == ThawPolicy::ZeroState && thawed.is_frozen(i);
            assert_eq!(after.0[2][1][i], if zeroed { 0 } else { before.0[2][1][i] }, "{policy:?} {i}");
        }
        assert!(before.0.iter().zip(&after.0).all(|(b, a)| b[0] == a[0]), "thawing changed a weight");
        train(&mut t, 1);
        let trained = snapshot(&t);
        assert!(thawed.frozen_indices().filter(|&i| trained.0[2][0][i] != before.0[2][0][i]).count() > 20);
        assert_frozen("the rest", &t, &after);
    }
}

#[test]
fn set_and_freeze_sets_masked_elements_only() {
    let mut t = trainer(Sgd::new(0.1).into(), continuing());
    let before = snapshot(&t);
    let mask = Mask::from_frozen((0..90).map(|i| i % 10 == 3));
    let values: Vec<f32> = (0..90).map(|i| f32::from_bits(ODD_BITS[i / 10])).collect();
    t.set_and_freeze("conv.kernel", &values, &mask).unwrap();
    let after = snapshot(&t);
    for (i, value) in values.iter().enumerate() {
        let expected = if mask.is_frozen(i) { value.to_bits() } else { before.0[0][0][i] };
        assert_eq!(after.0[0][0][i], expected);
    }
    // `set_and_freeze` also overwrites elements that are already frozen.
    t.set_and_freeze("conv.kernel", &[0.25; 90], &mask).unwrap();
    assert_eq!(t.frozen_count(), 9);
    train(&mut t, 3);
    let now = t.parameter("conv.kernel").unwrap();
    assert!(mask.frozen_indices().all(|i| now[i] == 0.25));
    assert_eq!(t.verify_frozen().unwrap().changed(), 0);
    // `set_parameter` changes trainable elements only.
    t.set_parameter("conv.kernel", &[1.0; 90]).unwrap();
    let now = t.parameter("conv.kernel").unwrap();
    assert!((0..90).all(|i| now[i] == if mask.is_frozen(i) { 0.25 } else { 1.0 }));
}
