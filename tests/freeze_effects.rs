//! What freezing does to everything else: nothing, at no cost. Failures seen in other projects, each by its number.

use crate::support::device::gpu;
use crate::support::training::*;
use frazil::trainer::GradientPolicy;
use frazil::{
    Batch, Clip, FreezeRule, Gpu, GpuOptions, Loss, Mask, Model, Optimizer, Sgd, Trainer, TrainerOptions,
};

const PATHS: [&str; 4] = ["conv.kernel", "conv.bias", "fc.kernel", "fc.bias"];

/// F6: what is frozen has gradients as large as can be, and the norm does not see them: the rest is clipped as if they
/// were 0, whether or not gradients are kept, and whether or not those of frozen elements are.
#[test]
fn f6_huge_gradients_of_frozen_elements_do_not_clip_the_rest() {
    // Row 3 of the kernel is frozen at 0, so that its feature reaches its own gradient and nothing else.
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
            let (quiet, norm) = run(0.0, masked());
            assert!(norm > 0.05, "{name}: nothing is clipped");
            for options in [masked(), kept(), dense()] {
                let (loud, louder) = run(1e15, options);
                let same = loud == quiet && louder == norm;
                // Where frozen elements are to count, this test does see them.
                assert_eq!(same, !over_all, "{name}, over all: {over_all}: {louder} and {norm}");
            }
        }
    }
}

/// F8: "masked" means that these are transformed and the rest is passed through, so that raw gradients are added to frozen
/// elements. Here they get nothing, and what trains gets its whole gradient.
#[test]
fn f8_frozen_elements_get_no_raw_gradient_and_the_rest_gets_all_of_it() {
    let options = going_on().keep_gradients(true).gradient_policy(GradientPolicy::Dense);
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
                "{path}: nothing could be passed through"
            );
            for (i, g) in gradient.into_iter().enumerate() {
                let old = before.0[number][0][i];
                // One rounding at a rate of 1, fused or not.
                let want = if mask.is_frozen(i) { old } else { (f32::from_bits(old) - g).to_bits() };
                assert_eq!(after.0[number][0][i], want, "{path} {i}");
            }
        }
        assert_frozen("F8", &t, &before);
    }
}

/// F8, for every rule: the first update of a trainable element is the one that it gets where nothing is frozen, bit for
/// bit, in weight and state.
#[test]
fn f8_what_is_frozen_does_not_change_the_update_of_the_rest() {
    for (name, optimizer) in optimizers() {
        // A norm over what trains is another norm where less trains: F6.
        if matches!(optimizer.clip_setting(), Some(Clip::Norm { over_all: false, .. })) {
            continue;
        }
        let mut free = trainer(optimizer.clone(), going_on());
        let initial = snapshot(&free);
        train(&mut free, 1);
        let free = snapshot(&free);
        for (glob, rule) in [
            ("*", FreezeRule::random(0.5).seed(1)),
            ("*", FreezeRule::random(0.1).seed(2)),
            ("*.kernel", FreezeRule::random(0.5).seed(3)),
            ("fc.*", FreezeRule::all()),
            ("*.bias", FreezeRule::all()),
        ] {
            let mut t = trainer(optimizer.clone(), going_on());
            t.freeze(glob, rule).unwrap();
            train(&mut t, 1);
            assert_frozen(name, &t, &initial);
            let after = snapshot(&t);
            for (number, path) in PATHS.iter().enumerate() {
                let mask = t.mask(path).unwrap();
                for (column, (got, want)) in after.0[number].iter().zip(&free.0[number]).enumerate() {
                    let wrong = (0..mask.len()).find(|&i| !mask.is_frozen(i) && got[i] != want[i]);
                    assert_eq!(wrong, None, "{name}, {glob}: {path}, column {column}");
                    // Of the larger tensors something frozen would have moved.
                    let held = mask.frozen_indices().any(|i| want[i] != initial.0[number][column][i]);
                    assert!(held || mask.frozen_count() < 5, "{name}, {glob}: {path}, column {column}");
                }
            }
        }
    }
}

/// conv, batch norm, dense: everything that a mask may be forgotten on.
fn normed() -> Model {
    Model::input([5, 5, 2])
        .conv2d("conv", 6, [3, 3], |c| c)
        .batch_norm("bn")
        .relu()
        .flatten()
        .dense("fc", 4)
        .build()
        .unwrap()
}

fn normed_trainer(optimizer: Optimizer) -> Trainer {
    Trainer::new(gpu(), normed(), Loss::SoftmaxCrossEntropy, optimizer, going_on()).unwrap()
}

/// Bits of the running mean and variance.
fn statistics(t: &Trainer) -> Vec<Vec<u32>> {
    let read = |path| t.parameter(path).unwrap().into_iter().map(f32::to_bits).collect();
    ["bn.running_mean", "bn.running_var"].map(read).to_vec()
}

/// F14: batch norm's scale and shift are forgotten, or biases are: each of their elements can be frozen by itself, with the
/// others training.
#[test]
fn f14_scale_shift_and_biases_are_frozen_by_element() {
    for (name, optimizer) in optimizers() {
        let mut t = normed_trainer(optimizer);
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
            assert!(moved > 0, "{name}: nothing of {} trains", parameter.path);
        }
    }
}

/// F14: batch norm's statistics move under frozen weights: they have a switch of their own, and with everything frozen and
/// the switch thrown, evaluation gives the same bits for ever.
#[test]
fn f14_statistics_move_by_their_own_switch_and_a_frozen_model_evaluates_alike() {
    for (name, optimizer) in optimizers() {
        let mut t = normed_trainer(optimizer);
        train(&mut t, 2);
        t.freeze("*", FreezeRule::all()).unwrap();
        let features = &batches(1)[0].features;
        let outputs = |t: &Trainer| -> Vec<u32> {
            t.predict(features).unwrap().into_iter().map(f32::to_bits).collect()
        };
        let (before, moving, first) = (snapshot(&t), statistics(&t), outputs(&t));
        train(&mut t, 2);
        assert_frozen(name, &t, &before);
        // Weights alone do not hold them, and evaluation shows it.
        for (old, new) in moving.iter().zip(statistics(&t)) {
            assert!(old.iter().zip(new).all(|(&old, new)| old != new), "{name}: a statistic did not follow");
        }
        assert_ne!(outputs(&t), first, "{name}");

        // One by one: the mean is held and the variance is not.
        t.freeze_statistics("bn.running_mean").unwrap();
        let half = statistics(&t);
        train(&mut t, 2);
        let now = statistics(&t);
        assert!(now[0] == half[0] && now[1] != half[1], "{name}");

        t.freeze_statistics("bn.running_*").unwrap();
        let (held, outputs_held, evaluation) = (snapshot(&t), outputs(&t), t.evaluate(&data()).unwrap());
        train(&mut t, 6);
        assert_frozen(name, &t, &held);
        assert!(snapshot(&t) == held, "{name}: a bit of a wholly frozen model changed");
        assert_eq!(outputs(&t), outputs_held, "{name}");
        assert_eq!(t.evaluate(&data()).unwrap(), evaluation, "{name}");

        t.thaw_statistics("bn.running_*").unwrap();
        train(&mut t, 1);
        assert_ne!(outputs(&t), outputs_held, "{name}");
    }
}

/// F16: a hook at every step makes every step slow. With a mask a step is one submission, as it is without, of no more
/// dispatches; nothing is allocated and nothing is read back.
#[test]
fn f16_a_mask_costs_no_submission_dispatch_or_read() {
    // A device of its own, for the counters are the device's.
    let gpu = Gpu::new(GpuOptions::default()).unwrap();
    let optimizer = || Optimizer::from(Sgd::new(0.01).momentum(0.9).weight_decay(0.1)).clip(Clip::norm(0.5));
    let options = || going_on().progress_every(0);
    let make = |rule: FreezeRule| {
        let mut t = Trainer::new(&gpu, model(), Loss::SoftmaxCrossEntropy, optimizer(), options()).unwrap();
        t.freeze("*", rule).unwrap();
        t
    };
    let rules = [FreezeRule::none(), FreezeRule::random(0.5), FreezeRule::all()];
    let mut trainers = rules.map(make);
    let work = |t: &Trainer| (t.report().dispatches.len(), t.report().flops());
    let free = work(&trainers[0]);
    for t in &mut trainers {
        gpu.wait().unwrap();
        let (submissions, buffers) = (gpu.submissions(), gpu.buffers_created());
        train(t, 20);
        // A read is a submission, too: `verify_frozen` below is seen.
        assert_eq!(gpu.submissions() - submissions, 20, "{} frozen", t.frozen_count());
        assert_eq!(gpu.buffers_created(), buffers);
        let masked = work(t);
        assert!(masked.0 <= free.0 && masked.1 <= free.1, "{masked:?} against {free:?}");
        t.verify_frozen().unwrap();
        assert!(gpu.submissions() - submissions > 20);
    }
}

/// Every failure of the list has its tests, found by their names.
#[test]
fn every_failure_has_a_test_by_its_number() {
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
