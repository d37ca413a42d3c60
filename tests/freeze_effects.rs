//! Tests that freezing has no effect on trainable elements and no cost per step: regression tests of the
//! freezing failures F6, F8, F14 and F16 (docs/masks.md).

use crate::support::device::gpu;
use crate::support::training::*;
use frazil::trainer::GradientPolicy;
use frazil::{
    Batch, Clip, FreezeRule, Gpu, GpuOptions, Loss, Mask, Model, Optimizer, Sgd, Trainer, TrainerOptions,
};

const PATHS: [&str; 4] = ["conv.kernel", "conv.bias", "fc.kernel", "fc.bias"];

/// Regression test F6 (docs/masks.md): gradient clipping must ignore frozen elements. Trainable elements are
/// clipped as if the gradients of frozen elements were 0, even if those are huge, with and without
/// `keep_gradients`, with masked and dense gradients.
#[test]
fn f6_huge_gradients_of_frozen_elements_do_not_clip_trainable_ones() {
    // Row 3 of the kernel `[6, 4]` is frozen at 0, so feature 3 has no effect except on the gradient of this
    // row.
    let model = || Model::input([6]).dense("fc", 4).build().unwrap();
    let row = Mask::from_frozen((0..24).map(|i| i / 4 == 3));
    let batch = |feature: f32| {
        let mut features: Vec<f32> = (0..6 * ROWS).map(|i| (i as f32 * 0.7).sin()).collect();
        features.iter_mut().skip(3).step_by(6).for_each(|x| *x = feature);
        Batch { features, labels: (0..ROWS as u32).map(|i| i % 4).collect(), ..Batch::default() }
    };
    for (name, optimizer) in optimizers() {
        for over_all in [false, true] {
            let clip = if over_all { Clip::norm(0.05).over_all() } else { Clip::norm(0.05) };
            let run = |feature: f32, options: TrainerOptions| {
                let optimizer = optimizer.clone().clip(clip);
                let mut t =
                    Trainer::new(gpu(), model(), Loss::SoftmaxCrossEntropy, optimizer, options).unwrap();
                t.set_and_freeze("fc.kernel", &[0.0; 24], &row).unwrap();
                let before = snapshot(&t);
                (0..3).for_each(|_| t.step(&batch(feature)).unwrap());
                assert_frozen(name, &t, &before);
                (snapshot(&t), t.gradient_norm().unwrap())
            };
            let masked = || TrainerOptions::batch(ROWS).seed(3);
            let kept = || masked().keep_gradients(true);
            let dense = || kept().gradient_policy(GradientPolicy::Dense);
            let (expected, norm) = run(0.0, masked());
            assert!(norm > 0.05, "{name}: nothing is clipped");
            for options in [masked(), kept(), dense()] {
                let (got, got_norm) = run(1e15, options);
                let same = got == expected && got_norm == norm;
                // With `over_all`, the norm includes frozen elements and the results must differ. This shows
                // that the huge gradients would be detected.
                assert_eq!(same, !over_all, "{name}, over all: {over_all}: {got_norm} and {norm}");
            }
        }
    }
}

/// Regression test F8 (docs/masks.md): frozen elements must get no update, and trainable elements their full
/// gradient. A masked gradient transformation instead passes the raw gradients of the other elements through
/// as their updates.
#[test]
fn f8_frozen_elements_get_no_raw_gradient_and_trainable_ones_the_full_gradient() {
    let options = continuing().keep_gradients(true).gradient_policy(GradientPolicy::Dense);
    let mut t = trainer(Sgd::new(1.0).into(), options);
    t.freeze("*", FreezeRule::random(0.5).seed(4)).unwrap();
    for batch in batches(3) {
        let before = snapshot(&t);
        t.step(&batch).unwrap();
        let after = snapshot(&t);
        for (number, path) in PATHS.iter().enumerate() {
            let (mask, gradient) = (t.mask(path).unwrap(), t.gradient(path).unwrap());
            assert!(
                mask.frozen_indices().any(|i| gradient[i] != 0.0),
                "{path}: all gradients of frozen elements are 0"
            );
            for (i, g) in gradient.into_iter().enumerate() {
                let old = before.0[number][0][i];
                // With a learning rate of 1, `w - g` is rounded once, with or without a fused multiply-add,
                // so bits can be compared.
                let expected = if mask.is_frozen(i) { old } else { (f32::from_bits(old) - g).to_bits() };
                assert_eq!(after.0[number][0][i], expected, "{path} {i}");
            }
        }
        assert_frozen("F8", &t, &before);
    }
}

/// Regression test F8 (docs/masks.md): for every update rule, the first update of a trainable element gives
/// the same weight and state bits with and without frozen elements.
#[test]
fn f8_frozen_elements_do_not_change_the_update_of_trainable_ones() {
    for (name, optimizer) in optimizers() {
        // Skips clipping by the norm over trainable elements, which depends on the mask by definition (F6).
        if matches!(optimizer.clip_setting(), Some(Clip::Norm { over_all: false, .. })) {
            continue;
        }
        let mut unfrozen = trainer(optimizer.clone(), continuing());
        let initial = snapshot(&unfrozen);
        train(&mut unfrozen, 1);
        let unfrozen = snapshot(&unfrozen);
        for (glob, rule) in [
            ("*", FreezeRule::random(0.5).seed(1)),
            ("*", FreezeRule::random(0.1).seed(2)),
            ("*.kernel", FreezeRule::random(0.5).seed(3)),
            ("fc.*", FreezeRule::all()),
            ("*.bias", FreezeRule::all()),
        ] {
            let mut t = trainer(optimizer.clone(), continuing());
            t.freeze(glob, rule).unwrap();
            train(&mut t, 1);
            assert_frozen(name, &t, &initial);
            let after = snapshot(&t);
            for (number, path) in PATHS.iter().enumerate() {
                let mask = t.mask(path).unwrap();
                for (column, (got, expected)) in after.0[number].iter().zip(&unfrozen.0[number]).enumerate() {
                    let differing = (0..mask.len()).find(|&i| !mask.is_frozen(i) && got[i] != expected[i]);
                    assert_eq!(differing, None, "{name}, {glob}: {path}, column {column}");
                    // Checks that the update without a mask changes some of the elements that are frozen
                    // here.
                    let effective =
                        mask.frozen_indices().any(|i| expected[i] != initial.0[number][column][i]);
                    assert!(effective || mask.frozen_count() < 5, "{name}, {glob}: {path}, column {column}");
                }
            }
        }
    }
}

/// A network with every kind of parameter: the kernels and biases of a convolution and a dense layer, and the
/// scale, shift and running statistics of a batch norm.
fn batch_norm_model() -> Model {
    Model::input([5, 5, 2])
        .conv2d("conv", 6, [3, 3], |c| c)
        .batch_norm("bn")
        .relu()
        .flatten()
        .dense("fc", 4)
        .build()
        .unwrap()
}

fn batch_norm_trainer(optimizer: Optimizer) -> Trainer {
    Trainer::new(gpu(), batch_norm_model(), Loss::SoftmaxCrossEntropy, optimizer, continuing()).unwrap()
}

/// Returns the bits of the running mean and variance.
fn statistics(t: &Trainer) -> Vec<Vec<u32>> {
    let read = |path| t.parameter(path).unwrap().into_iter().map(f32::to_bits).collect();
    ["bn.running_mean", "bn.running_var"].map(read).to_vec()
}

/// Regression test F14 (docs/masks.md): each element of a batch norm's scale and shift, and of a bias, can be
/// frozen.
#[test]
fn f14_scale_shift_and_biases_are_frozen_by_element() {
    for (name, optimizer) in optimizers() {
        let mut t = batch_norm_trainer(optimizer);
        train(&mut t, 2);
        for path in ["bn.scale", "bn.shift", "conv.bias", "fc.bias"] {
            let len = t.mask(path).unwrap().len();
            let mask = Mask::from_frozen((0..len).map(|i| i % 2 == 1));
            let values: Vec<f32> = (0..len).map(|i| f32::from_bits(ODD_FINITE_BITS[i / 2 % 3])).collect();
            t.set_and_freeze(path, &values, &mask).unwrap();
        }
        let before = snapshot(&t);
        train(&mut t, 6);
        assert_frozen(name, &t, &before);
        let after = snapshot(&t);
        for (number, parameter) in t.model().parameters().iter().enumerate() {
            let mask = t.mask(&parameter.path).unwrap();
            let (old, new) = (&before.0[number][0], &after.0[number][0]);
            let moved = (0..mask.len()).filter(|&i| !mask.is_frozen(i) && old[i] != new[i]).count();
            assert!(moved > 0, "{name}: no element of {} changed", parameter.path);
        }
    }
}

/// Regression test F14 (docs/masks.md): batch norm's running statistics change while all weights are frozen,
/// unless `freeze_statistics` freezes them too. With both frozen, evaluation gives the same bits after any
/// further training.
#[test]
fn f14_running_statistics_are_frozen_separately_and_a_frozen_model_evaluates_to_equal_bits() {
    for (name, optimizer) in optimizers() {
        let mut t = batch_norm_trainer(optimizer);
        train(&mut t, 2);
        t.freeze("*", FreezeRule::all()).unwrap();
        let features = &batches(1)[0].features;
        let outputs = |t: &Trainer| -> Vec<u32> {
            t.predict(features).unwrap().into_iter().map(f32::to_bits).collect()
        };
        let (before, initial_statistics, initial_outputs) = (snapshot(&t), statistics(&t), outputs(&t));
        train(&mut t, 2);
        assert_frozen(name, &t, &before);
        // Frozen weights do not freeze the running statistics, so the outputs in evaluation change.
        for (old, new) in initial_statistics.iter().zip(statistics(&t)) {
            assert!(
                old.iter().zip(new).all(|(&old, new)| old != new),
                "{name}: a running statistic was not updated"
            );
        }
        assert_ne!(outputs(&t), initial_outputs, "{name}");

        // Freezes the running mean only; the running variance must still change.
        t.freeze_statistics("bn.running_mean").unwrap();
        let old = statistics(&t);
        train(&mut t, 2);
        let new = statistics(&t);
        assert!(new[0] == old[0] && new[1] != old[1], "{name}");

        t.freeze_statistics("bn.running_*").unwrap();
        let (frozen, frozen_outputs) = (snapshot(&t), outputs(&t));
        let evaluation = t.evaluate(&data()).unwrap();
        train(&mut t, 6);
        assert_frozen(name, &t, &frozen);
        assert!(snapshot(&t) == frozen, "{name}: a bit of a fully frozen model changed");
        assert_eq!(outputs(&t), frozen_outputs, "{name}");
        assert_eq!(t.evaluate(&data()).unwrap(), evaluation, "{name}");

        t.thaw_statistics("bn.running_*").unwrap();
        train(&mut t, 1);
        assert_ne!(outputs(&t), frozen_outputs, "{name}");
    }
}

/// Regression test F16 (docs/masks.md): a mask must not make steps slower, as a hook that runs at every step
/// does. A step is one submission with or without a mask, and a mask adds no dispatch, allocation or
/// read-back.
#[test]
fn f16_mask_adds_no_submission_dispatch_allocation_or_read_back() {
    // Creates a separate device, because the counters are per device and other tests use the shared one.
    let gpu = Gpu::new(GpuOptions::default()).unwrap();
    let optimizer = || Optimizer::from(Sgd::new(0.01).momentum(0.9).weight_decay(0.1)).clip(Clip::norm(0.5));
    let options = || continuing().progress_every(0);
    let frozen_trainer = |rule: FreezeRule| {
        let mut t = Trainer::new(&gpu, model(), Loss::SoftmaxCrossEntropy, optimizer(), options()).unwrap();
        t.freeze("*", rule).unwrap();
        t
    };
    let rules = [FreezeRule::none(), FreezeRule::random(0.5), FreezeRule::all()];
    let mut trainers = rules.map(frozen_trainer);
    let work = |t: &Trainer| (t.report().dispatches.len(), t.report().flops());
    let unfrozen = work(&trainers[0]);
    for t in &mut trainers {
        gpu.wait().unwrap();
        let (submissions, buffers) = (gpu.submissions(), gpu.buffers_created());
        train(t, 20);
        // A read-back would be a further submission; the call of `verify_frozen` below shows that read-backs
        // are counted.
        assert_eq!(gpu.submissions() - submissions, 20, "{} frozen", t.frozen_count());
        assert_eq!(gpu.buffers_created(), buffers);
        let masked = work(t);
        assert!(
            masked.0 <= unfrozen.0 && masked.1 <= unfrozen.1,
            "expected at most {unfrozen:?}, got {masked:?}"
        );
        t.verify_frozen().unwrap();
        assert!(gpu.submissions() - submissions > 20);
    }
}

/// Checks that each of the freezing failures F1 to F20 (docs/masks.md) has a test whose name begins with its
/// number.
#[test]
fn every_freezing_failure_has_a_test() {
    let mut sources = Vec::new();
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")];
    folders.push(folders[0].parent().unwrap().join("src"));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                sources.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let is_tested = |number: &u32| {
        let name = format!("#[test]\nfn f{number}_");
        sources.iter().any(|text| {
            let plain: Vec<_> = text.lines().map(str::trim_start).collect();
            plain.join("\n").contains(&name)
        })
    };
    let missing: Vec<u32> = (1..=20).filter(|number| !is_tested(number)).collect();
    assert_eq!(missing, [0; 0]);
    assert!(!is_tested(&21) && !is_tested(&0));
}
