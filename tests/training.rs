//! Tests training through the public `Trainer` interface: golden trajectories, reproducibility, short
//! batches, metrics, allocations and non-finite losses.

use crate::support::compare::{assert_relative, widen};
use crate::support::device::{families, gpu};
use crate::support::golden::{Case, cases, number};
use crate::support::skip;
use crate::support::training::*;
use crate::support::trajectory::{clip, counts_element_steps, update_rule};
use frazil::low_level::GemmFamily;
use frazil::low_level::UpdateRule;
use frazil::trainer::OnNonFinite;
use frazil::{
    Adagrad, Adam, AdamW, Batch, BiasCorrection, Clip, Digits, Error, FreezeRule, Gpu, GpuOptions, Loss,
    LrSchedule, Mask, Model, Optimizer, Padding, RmsProp, Sgd, ThawPolicy, Trainer, TrainerOptions,
};

/// Builds the network of the golden trajectories (tests/golden) with the model builder.
fn golden_model() -> Model {
    Model::input([8, 8, 2])
        .conv2d("conv1", 4, [3, 3], |c| c.padding(Padding::Same))
        .relu()
        .conv2d("conv2", 3, [3, 3], |c| c.padding(Padding::Same).stride([2, 2]))
        .flatten()
        .dense("dense", 5)
        .build()
        .unwrap()
}

/// Creates the optimizer of a golden case with the public builder methods.
fn optimizer(case: &Case) -> Optimizer {
    let lr = case.params["optimizer"]["lr"].as_f64().unwrap();
    let counts =
        if counts_element_steps(case) { BiasCorrection::ElementSteps } else { BiasCorrection::TrainerSteps };
    let optimizer: Optimizer = match update_rule(case) {
        UpdateRule::Sgd { momentum, nesterov, weight_decay } => {
            Sgd::new(lr).momentum(momentum).nesterov(nesterov).weight_decay(weight_decay).into()
        }
        UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled: false, amsgrad } => Adam::new(lr)
            .betas(beta1, beta2)
            .epsilon(epsilon)
            .weight_decay(weight_decay)
            .amsgrad(amsgrad)
            .bias_correction(counts)
            .into(),
        UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, amsgrad, .. } => AdamW::new(lr)
            .betas(beta1, beta2)
            .epsilon(epsilon)
            .weight_decay(weight_decay)
            .amsgrad(amsgrad)
            .bias_correction(counts)
            .into(),
        UpdateRule::RmsProp { alpha, epsilon, momentum, centered, weight_decay } => RmsProp::new(lr)
            .alpha(alpha)
            .epsilon(epsilon)
            .momentum(momentum)
            .centered(centered)
            .weight_decay(weight_decay)
            .into(),
        UpdateRule::Adagrad { epsilon, weight_decay } => {
            Adagrad::new(lr).epsilon(epsilon).weight_decay(weight_decay).into()
        }
        other => panic!("no optimizer for {other:?}"),
    };
    match clip(case) {
        None => optimizer,
        Some(clip) => optimizer.clip(clip),
    }
}

/// Returns the peak learning rate and the schedule of a golden case; `None` for a constant rate.
fn schedule(case: &Case) -> Option<(f64, LrSchedule)> {
    match case.name.as_str() {
        "traj_adamw_cosine_warmup" => Some((0.02, LrSchedule::cosine(20).warm_up(5))),
        "traj_sgd_momentum_cosine_warmup" => Some((0.1, LrSchedule::cosine(20).warm_up(4).floor(0.01))),
        _ => None,
    }
}

/// Trains every golden trajectory with a `Trainer`, its learning-rate schedule and its mask changes, and
/// compares loss, gradient norm and weights after each step with the golden values.
#[test]
fn golden_trajectories_through_the_trainer() {
    let mut worst = 0.0f64;
    let mut compared = 0;
    for case in cases("trajectory") {
        let mut optimizer = optimizer(&case);
        if let Some((peak, schedule)) = schedule(&case) {
            optimizer.set_learning_rate(peak).unwrap();
            optimizer = optimizer.schedule(schedule);
        }
        let clipped = clip(&case);
        let options = TrainerOptions::batch(3).keep_gradients(true);
        let mut t =
            Trainer::new(gpu(), golden_model(), Loss::SoftmaxCrossEntropy, optimizer, options).unwrap();
        let paths: Vec<_> = t.model().parameters().iter().map(|p| p.path.clone()).collect();
        for path in &paths {
            t.set_parameter(path, &case.f32(&format!("init.{path}"))).unwrap();
        }
        let policy = if case.params["thawed_slots"] == "reset" {
            ThawPolicy::ZeroState
        } else {
            ThawPolicy::KeepState
        };
        let (input, labels) = (case.f32("input"), case.i32("labels"));
        let (rates, losses) = (case.f64("lr_f64"), case.f64("loss_f64"));
        let norms = [case.f64("grad_norm_all_f64"), case.f64("grad_norm_trainable_f64")];
        for step in 0..20 {
            for change in case.params["mask_changes"].as_array().unwrap() {
                if number(&change["from_step"]) != step {
                    continue;
                }
                for path in &paths {
                    let bits = case.u8(&format!("{}.{path}", change["prefix"].as_str().unwrap()));
                    t.replace_mask(path, Mask::from_frozen(bits.iter().map(|&b| b == 1)), policy).unwrap();
                }
            }
            let rate = t.optimizer().learning_rate_at(step as u64);
            assert!((rate - rates[step]).abs() <= 1e-12 * rates[step], "{} step {step}: {rate}", case.name);
            let batch = Batch {
                features: input[step * 384..(step + 1) * 384].to_vec(),
                labels: labels[step * 3..(step + 1) * 3].iter().map(|&l| l as u32).collect(),
                ..Batch::default()
            };
            let loss = f64::from(t.step_loss(&batch).unwrap());
            assert_relative(&format!("{} step {step}: loss", case.name), &[loss], &losses[step..=step], 1e-4);
            if let Some(Clip::Norm { over_all, .. }) = clipped {
                let want = norms[usize::from(!over_all)][step];
                let got = f64::from(t.gradient_norm().unwrap());
                assert_relative(&format!("{} step {step}: norm", case.name), &[got], &[want], 1e-4);
            }
            for path in &paths {
                let now = widen(&t.parameter(path).unwrap());
                let all = case.f64(&format!("weights.{path}_f64"));
                let want = &all[(step + 1) * now.len()..(step + 2) * now.len()];
                let bound = if step < 5 { 1e-5 } else { 5e-5 };
                worst = worst.max(assert_relative(
                    &format!("{} step {step}: {path}", case.name),
                    &now,
                    want,
                    bound,
                ));
            }
        }
        assert_eq!(t.verify_frozen().unwrap().changed(), 0, "{}", case.name);
        compared += 1;
    }
    println!("{compared} trajectories through the trainer, largest relative error of weights {worst:.1e}");
    assert_eq!(compared, 27);
}

#[test]
fn two_runs_are_bit_identical() {
    for (name, optimizer) in optimizers() {
        let run = |seed| {
            let mut t = trainer(optimizer.clone(), TrainerOptions::batch(ROWS).seed(seed));
            t.freeze("*", FreezeRule::random(0.3).seed(2)).unwrap();
            train(&mut t, 10);
            (t.digest().unwrap(), snapshot(&t), t.metrics().unwrap())
        };
        let (first, second, other) = (run(3), run(3), run(4));
        assert!(first == second, "{name}");
        assert!(first.0 != other.0 && first.1 != other.1, "{name}: another seed gives the same");
    }
}

#[test]
fn an_empty_mask_trains_bit_for_bit_as_no_mask() {
    for (name, optimizer) in optimizers() {
        let mut plain = trainer(optimizer.clone(), continuing());
        let mut masked = trainer(optimizer, continuing());
        masked.freeze("*", FreezeRule::none()).unwrap();
        for t in [&mut plain, &mut masked] {
            train(t, 4);
        }
        // A mask that was set and removed again does not change later steps either.
        masked.freeze("*", FreezeRule::all()).unwrap();
        masked.thaw("*", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
        for t in [&mut plain, &mut masked] {
            train(t, 4);
        }
        assert!(snapshot(&plain) == snapshot(&masked), "{name}");
        assert_eq!(plain.digest().unwrap(), masked.digest().unwrap(), "{name}");
    }
}

#[test]
fn families_agree_bit_for_bit_on_software_adapters_and_within_rounding_elsewhere() {
    let run = |family, biases: FreezeRule| {
        let mut t = trainer(Sgd::new(0.05).momentum(0.9).into(), continuing().family(family));
        t.freeze("*", FreezeRule::random(0.5).seed(2)).unwrap();
        t.freeze("*.bias", biases).unwrap();
        train(&mut t, 10);
        (snapshot(&t), t.verify_frozen().unwrap().digest)
    };
    let all: Vec<_> = families().into_iter().map(|f| (f, run(f, FreezeRule::random(0.5).seed(2)))).collect();
    let without: Vec<_> = families().into_iter().map(|f| (f, run(f, FreezeRule::all()))).collect();
    // On software adapters, families with the same order of summation agree on every bit. Hardware drivers
    // may contract a*b+c to a fused multiply-add in one family and not in another. Only bias gradients have
    // two orders of summation: the subgroup family fuses them into the weight gradient. In the runs of
    // `without`, all biases are frozen.
    if !gpu().report().software {
        skip("training: bits of different families", "hardware drivers may contract a*b+c");
    }
    let fused_bias = |family: &GemmFamily| matches!(family, GemmFamily::Subgroup { .. });
    let mut equal = 0;
    for (runs, biases) in [(&all, true), (&without, false)] {
        for ((one, first), (two, second)) in runs.iter().flat_map(|a| runs.iter().map(move |b| (a, b))) {
            if one != two && (!biases || fused_bias(one) == fused_bias(two)) && gpu().report().software {
                assert!(first.0 == second.0, "{one} and {two}, biases trained: {biases}");
                equal += 1;
            }
        }
    }
    println!("{equal} pairs of families agree bit for bit");
    assert!(equal > 0 || !gpu().report().software);
    let all: Vec<_> = all.into_iter().map(|(_, run)| run).collect();
    for other in &all[1..] {
        // The digest of the frozen elements is the same in all families.
        assert_eq!(all[0].1, other.1);
        for (one, two) in all[0].0.0.iter().zip(&other.0.0) {
            let floats = |bits: &[u32]| bits.iter().map(|&b| f32::from_bits(b).into()).collect::<Vec<f64>>();
            assert_relative("weights", &floats(&one[0]), &floats(&two[0]), 1e-5);
        }
    }
}

#[test]
fn a_short_batch_trains_as_a_full_batch_of_its_size() {
    let options = |batch| TrainerOptions::batch(batch).seed(3);
    let mut wide = trainer(Sgd::new(0.1).momentum(0.9).into(), options(ROWS));
    let mut narrow = trainer(Sgd::new(0.1).momentum(0.9).into(), options(2));
    let batch = batches(1).remove(0);
    let short = Batch {
        features: batch.features[..100].to_vec(),
        labels: batch.labels[..2].to_vec(),
        ..Batch::default()
    };
    // The third trainer, `after_nan`, first trains on a batch of NaN, and then its initial weights and state
    // are restored. The unused rows of its buffers still contain NaN, which a short batch must not read.
    let poisoned = Batch {
        features: vec![f32::NAN; batch.features.len()],
        labels: batch.labels.clone(),
        ..Batch::default()
    };
    let mut after_nan =
        trainer(Sgd::new(0.1).momentum(0.9).into(), options(ROWS).on_non_finite(OnNonFinite::Continue));
    let initial = snapshot(&after_nan);
    after_nan.step(&poisoned).unwrap();
    for index in 0..4 {
        let id = frazil::low_level::ParameterId::of(index);
        after_nan.store().write_weights(id, &initial.0[index][0]).unwrap();
        after_nan.store().write_state(0, id, &initial.0[index][1]).unwrap();
    }
    for t in [&mut wide, &mut narrow, &mut after_nan] {
        let loss = t.step_loss(&short).unwrap();
        assert!(loss.is_finite());
        t.step(&short).unwrap();
    }
    assert!(snapshot(&wide) == snapshot(&after_nan), "unused rows were read");
    let (wide, narrow) = (wide.parameter("fc.kernel").unwrap(), narrow.parameter("fc.kernel").unwrap());
    assert_relative("short batch", &widen(&wide), &widen(&narrow), 1e-6);
}

#[test]
fn metrics_count_every_example_once() {
    let mut t = trainer(Sgd::new(0.0).into(), TrainerOptions::batch(ROWS).seed(3).progress_every(1));
    train(&mut t, 7);
    assert!(t.progress().is_some_and(|m| m.examples > 0 && m.examples % 2 == 0));
    let m = t.metrics().unwrap();
    assert_eq!(m.examples, 40);
    assert_eq!(t.progress(), None);
    // With learning rate 0 the weights do not change, so the training metrics equal those of the evaluation.
    let e = t.evaluate(&data()).unwrap();
    assert_eq!((e.examples, e.correct), (40, m.correct));
    assert!((e.loss - m.loss).abs() < 1e-6, "{} {}", e.loss, m.loss);
    assert_eq!(t.metrics().unwrap().examples, 0);
}

#[test]
fn training_allocates_nothing_after_compile() {
    // Opens a separate device, because each device counts its own allocations.
    let gpu = Gpu::new(GpuOptions::default()).unwrap();
    let mut t =
        Trainer::new(&gpu, model(), Loss::SoftmaxCrossEntropy, Sgd::new(0.01).momentum(0.9), continuing())
            .unwrap();
    t.freeze("*", FreezeRule::random(0.5)).unwrap();
    let (buffers, bytes) = (gpu.buffers_created(), gpu.allocated_bytes());
    let all = batches(7);
    for step in 0..1000 {
        t.step(&all[step % 7]).unwrap();
        if step % 100 == 99 {
            t.metrics().unwrap();
            t.evaluate(&data()).unwrap();
            assert_eq!(t.verify_frozen().unwrap().changed(), 0);
        }
    }
    assert_eq!((gpu.buffers_created(), gpu.allocated_bytes()), (buffers, bytes));
    drop(t);
    assert_eq!(gpu.allocated_bytes(), 0, "a dropped trainer frees its buffers");
}

#[test]
fn a_loss_that_is_not_finite_stops_updates_and_is_reported() {
    let mut t = trainer(Sgd::new(0.1).momentum(0.9).into(), TrainerOptions::batch(ROWS).seed(3));
    train(&mut t, 3);
    let before = snapshot(&t);
    let mut bad = batches(1).remove(0);
    bad.features[0] = f32::NAN;
    t.step(&bad).unwrap();
    train(&mut t, 2);
    assert!(snapshot(&t) == before, "updates continued after a non-finite loss");
    let error = t.metrics().unwrap_err();
    assert!(matches!(error, Error::NonFiniteLoss { step: 3 }), "{error}");
    // Every call returns the error, and no step updates the weights, until `forget_non_finite` clears it.
    assert!(matches!(t.metrics(), Err(Error::NonFiniteLoss { .. })));
    t.forget_non_finite().unwrap();
    train(&mut t, 2);
    assert!(t.metrics().unwrap().loss.is_finite() && snapshot(&t) != before);
    // The methods of a step report the error as well: `step_loss` reads its own loss, and `step` with
    // `progress_every(1)` reads the losses of earlier steps.
    let mut t = trainer(Sgd::new(0.1).into(), TrainerOptions::batch(ROWS).seed(3));
    assert!(matches!(t.step_loss(&bad), Err(Error::NonFiniteLoss { step: 0 })));
    let mut t = trainer(Sgd::new(0.1).into(), TrainerOptions::batch(ROWS).seed(3).progress_every(1));
    let error = (0..10).find_map(|_| t.step(&bad).err()).unwrap();
    assert!(matches!(error, Error::NonFiniteLoss { step: 0 }), "{error}");
}

/// Trains the digits model with half of every convolution kernel frozen, with seeds 1 to 3. The median test
/// accuracy must be at least 0.92, and none may be below 0.90.
#[test]
fn digits_are_learned_with_half_of_every_conv_kernel_frozen() {
    let (train, test) = (Digits::train().unwrap(), Digits::test().unwrap());
    let mut accuracies: Vec<f64> = (1..=3)
        .map(|seed| {
            let options = TrainerOptions::batch(64).seed(seed);
            let sgd = Sgd::new(0.05).momentum(0.9);
            let mut t =
                Trainer::new(gpu(), Model::digits().unwrap(), Loss::SoftmaxCrossEntropy, sgd, options)
                    .unwrap();
            assert_eq!(t.freeze("conv*.kernel", FreezeRule::random(0.5).seed(seed)).unwrap(), 2376);
            let before = snapshot(&t);
            for epoch in 1..=20 {
                for batch in train.batches_for_epoch(64, seed, epoch).unwrap() {
                    t.step(&batch).unwrap();
                }
                assert!(
                    t.progress().is_some_and(|m| m.examples >= 8 * 64),
                    "progress lags behind by too much for a progress bar"
                );
                t.metrics().unwrap();
            }
            assert_frozen("digits", &t, &before);
            let (moved, trainable) = moved(&t, &before);
            assert!(moved >= 30_000 && trainable == 35_906, "seed {seed}: {moved} of {trainable}");
            t.evaluate(&test).unwrap().accuracy()
        })
        .collect();
    println!("test accuracy over seeds 1 to 3: {accuracies:.4?}");
    accuracies.sort_by(f64::total_cmp);
    assert!(accuracies[1] >= 0.92 && accuracies[0] >= 0.90, "{accuracies:?}");
}
