//! Tests update rules, gradient clipping, per-parameter factors and learning-rate schedules in cases that the
//! golden trajectories (tests/golden) do not cover.

use crate::support::compare::assert_relative;
use crate::support::device::gpu;
use crate::support::training::*;
use frazil::low_level::Reference;
use frazil::low_level::Shape;
use frazil::low_level::{DType, Graph, Op, ParameterId, StepScalars, Target, UpdateRule};
use frazil::low_level::{Plan, PlanOptions};
use frazil::mask::Mask;
use frazil::trainer::GradientPolicy;
use frazil::{
    Adam, AdamW, BiasCorrection, Clip, Error, FreezeRule, LrSchedule, Optimizer, RmsProp, Sgd, Trainer,
    TrainerOptions,
};

fn options() -> TrainerOptions {
    TrainerOptions::batch(ROWS).seed(3)
}

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}

/// Updates one tensor `steps` times with a constant gradient on the reference and on the device, compares
/// both, and returns the reference's weights, followed by its state slots.
fn run_update(
    rule: UpdateRule,
    step: StepScalars,
    steps: usize,
    weights: &[f32],
    gradient: &[f32],
    state: &[Vec<f32>],
) -> Vec<Vec<f64>> {
    let mut graph = Graph::new(1).unwrap();
    let shape = Shape::new([weights.len()]).unwrap();
    let w = graph.parameter("w", shape.clone()).unwrap();
    let g = graph.input("g", shape, DType::F32);
    let id = ParameterId::of(0);
    graph.push(Op::Update(rule, vec![id.into()]), &[g], "update").unwrap();
    let plan = Plan::compile(gpu(), &graph, &PlanOptions::default()).unwrap();
    let mut reference = Reference::new(&graph).unwrap();
    plan.write_f32(w, weights).unwrap();
    plan.write_f32(g, gradient).unwrap();
    reference.write(w, &widen(weights)).unwrap();
    reference.write(g, &widen(gradient)).unwrap();
    for (slot, values) in state.iter().enumerate() {
        let bits: Vec<_> = values.iter().map(|x| x.to_bits()).collect();
        plan.store().write_state(slot, id, &bits).unwrap();
        reference.write_state(id, slot, &widen(values)).unwrap();
    }
    for _ in 0..steps {
        plan.run(step).unwrap();
        reference.run(step).unwrap();
    }
    let mut all = vec![reference.read(w).to_vec()];
    all.extend((0..state.len()).map(|slot| reference.state(id, slot).to_vec()));
    let device = |index: usize| match index {
        0 => plan.read_f32(w).unwrap(),
        slot => {
            let bits = plan.store().read_state(slot - 1, id).unwrap();
            bits.into_iter().map(f32::from_bits).collect()
        }
    };
    for (index, expected) in all.iter().enumerate() {
        let got = device(index);
        for (got, expected) in got.iter().zip(expected) {
            let close = (f64::from(*got) - expected).abs() <= 1e-6 * (1.0 + expected.abs());
            let both_nan = got.is_nan() && expected.is_nan();
            assert!(close || both_nan, "tensor {index}: expected {expected}, got {got}");
        }
    }
    all
}

/// The scalars of a step after which results that are not finite are stored.
fn step_scalars(learning_rate: f32) -> StepScalars {
    StepScalars { learning_rate, on_non_finite_continue: 1, ..StepScalars::forward(1) }
}

#[test]
fn update_rules_match_values_computed_by_hand() {
    // AMSGrad with gradient 2: m = 0.5*0 + 0.5*2 = 1 and v = 0.5*8 + 0.5*2^2 = 6. The maxima of v are 16 and
    // 4 before the step, so 16 and 6 after it.
    let amsgrad = UpdateRule::Adam {
        beta1: 0.5,
        beta2: 0.5,
        epsilon: 1.0,
        weight_decay: 0.0,
        decoupled: false,
        amsgrad: true,
    };
    let step = StepScalars { correction1: 0.5, correction2: 0.25, ..step_scalars(1.0) };
    let all =
        run_update(amsgrad, step, 1, &[1.0; 2], &[2.0; 2], &[vec![0.0; 2], vec![8.0; 2], vec![16.0, 4.0]]);
    // The step is the bias-corrected m, 1 / 0.5 = 2, divided by the square root of the bias-corrected maximum
    // plus epsilon: sqrt(16 / 0.25) + 1 = 9 for the first element, sqrt(6 / 0.25) + 1 for the second.
    assert!((all[0][0] - (1.0 - 2.0 / 9.0)).abs() < 1e-15, "{all:?}");
    assert!((all[0][1] - (1.0 - 2.0 / (24f64.sqrt() + 1.0))).abs() < 1e-15, "{all:?}");
    assert_eq!(all[3], [16.0, 6.0]);

    let rmsprop = |momentum, centered| UpdateRule::RmsProp {
        alpha: 0.75,
        epsilon: 1.0,
        momentum,
        centered,
        weight_decay: 0.5,
    };
    // RMSprop: the gradient with weight decay is g = 3 + 0.5*2 = 4, the mean square is v = 0.75*16 + 0.25*4^2
    // = 16, and the normalized gradient is 4 / (sqrt(16) + 1) = 0.8.
    let all = run_update(rmsprop(0.0, false), step_scalars(0.5), 1, &[2.0], &[3.0], &[vec![16.0]]);
    assert_eq!(all, [vec![2.0 - 0.5 * 0.8], vec![16.0]]);
    // With momentum 0.5, the momentum buffer changes from 2 to 0.5*2 + 0.8 = 1.8.
    let all = run_update(rmsprop(0.5, false), step_scalars(0.5), 1, &[2.0], &[3.0], &[vec![16.0], vec![2.0]]);
    assert_eq!(all, [vec![2.0 - 0.5 * 1.8], vec![16.0], vec![1.8]]);
    // Centred RMSprop: the mean gradient is 0.75*(8/3) + 0.25*4 = 3, so the variance is 16 - 3^2 = 7.
    let all =
        run_update(rmsprop(0.0, true), step_scalars(0.5), 1, &[2.0], &[3.0], &[vec![16.0], vec![8.0 / 3.0]]);
    assert!((all[0][0] - (2.0 - 2.0 / (7f64.sqrt() + 1.0))).abs() < 1e-7 && (all[2][0] - 3.0).abs() < 1e-7);
    let slots = [vec![16.0], vec![8.0 / 3.0], vec![2.0]];
    let all = run_update(rmsprop(0.5, true), step_scalars(0.5), 1, &[2.0], &[3.0], &slots);
    assert!((all[3][0] - (1.0 + 4.0 / (7f64.sqrt() + 1.0))).abs() < 1e-7, "{all:?}");

    // Adagrad: with gradient 3, the sum of squares is 7 + 3^2 = 16, and the normalized gradient is 3 /
    // (sqrt(16) + 1) = 0.6.
    let adagrad = UpdateRule::Adagrad { epsilon: 1.0, weight_decay: 0.0 };
    assert_eq!(
        run_update(adagrad, step_scalars(0.5), 1, &[2.0], &[3.0], &[vec![7.0]]),
        [vec![1.7], vec![16.0]]
    );
}

/// If the square of the mean gradient exceeds the mean square, the variance of centred RMSprop is 0 and not
/// negative, so the weight does not become NaN. A NaN gradient still gives a NaN weight.
#[test]
fn rmsprop_clamps_a_negative_centred_variance_to_zero() {
    let rule =
        UpdateRule::RmsProp { alpha: 0.5, epsilon: 0.5, momentum: 0.0, centered: true, weight_decay: 0.0 };
    let state = [vec![0.0, 0.0, 0.0], vec![1.0, 3.0, 1.0]];
    let all = run_update(rule, step_scalars(1.0), 1, &[1.0; 3], &[0.0, 0.25, f32::NAN], &state);
    assert_eq!(all[0][..2], [1.0, 1.0 - 0.25 / 0.5]);
    assert!(all[0][2].is_nan());
}

#[test]
fn amsgrad_maximum_propagates_nan() {
    let rule = UpdateRule::Adam {
        beta1: 0.5,
        beta2: 0.5,
        epsilon: 1.0,
        weight_decay: 0.0,
        decoupled: false,
        amsgrad: true,
    };
    let state = [vec![0.0; 2], vec![0.0; 2], vec![5.0; 2]];
    let all = run_update(rule, step_scalars(1.0), 1, &[1.0; 2], &[f32::NAN, 1.0], &state);
    assert!(all[3][0].is_nan() && all[3][1] == 5.0, "{all:?}");
}

fn clipped_sgd(clip: Clip) -> Optimizer {
    Optimizer::from(Sgd::new(0.25)).clip(clip)
}

fn gradient(t: &Trainer, path: &str) -> Vec<f32> {
    t.gradient(path).unwrap()
}

const PATHS: [&str; 4] = ["conv.kernel", "conv.bias", "fc.kernel", "fc.bias"];

/// Regression test F6 (docs/masks.md): gradient clipping counts frozen elements, and so scales the gradients
/// of trainable elements down too much. With `Clip::over_all`, the norm includes frozen elements on request.
#[test]
fn f6_norm_counts_trainable_elements_only_unless_over_all() {
    for over_all in [false, true] {
        let clip = if over_all { Clip::norm(0.1).over_all() } else { Clip::norm(0.1) };
        let dense = options().keep_gradients(true).gradient_policy(GradientPolicy::Dense);
        let mut t = trainer(clipped_sgd(clip), dense);
        t.freeze("*", FreezeRule::random(0.5).seed(1)).unwrap();
        let before = snapshot(&t);
        train(&mut t, 1);
        let (mut trainable, mut all) = (0.0, 0.0);
        for path in PATHS {
            for (i, g) in gradient(&t, path).into_iter().enumerate() {
                let square = f64::from(g) * f64::from(g);
                all += square;
                trainable += if t.mask(path).unwrap().is_frozen(i) { 0.0 } else { square };
            }
        }
        assert!(all > 1.5 * trainable, "the frozen elements are too small to detect");
        let norm = if over_all { all.sqrt() } else { trainable.sqrt() };
        assert_relative("norm", &[t.gradient_norm().unwrap().into()], &[norm], 1e-6);
        assert_frozen("clip", &t, &before);
        // The weights must change by the clipped gradient; `Trainer::gradient` returns the gradient before
        // clipping.
        let scale = 0.1 / (norm + 1e-6);
        assert!(scale < 0.9);
        for (index, path) in PATHS.iter().enumerate() {
            let (g, now) = (gradient(&t, path), t.parameter(path).unwrap());
            for i in (0..g.len()).filter(|&i| !t.mask(path).unwrap().is_frozen(i)) {
                let old = f64::from(f32::from_bits(before.0[index][0][i]));
                let expected = old - 0.25 * scale * f64::from(g[i]);
                assert!((f64::from(now[i]) - expected).abs() < 1e-7, "{path} {i}");
            }
        }
    }
    let mut unclipped = trainer(Sgd::new(0.1).into(), options());
    train(&mut unclipped, 1);
    assert!(matches!(unclipped.gradient_norm(), Err(Error::InvalidArgument { .. })));
}

#[test]
fn norm_ignores_nan_and_infinity_in_gradients_of_frozen_elements() {
    let mut graph = Graph::new(1).unwrap();
    let shape = Shape::new([5]).unwrap();
    let w = graph.parameter("w", shape.clone()).unwrap();
    let g = graph.input("g", shape, DType::F32);
    let id = ParameterId::of(0);
    graph.push(Op::Clip(Clip::norm(1.0), vec![id]), &[g], "clip").unwrap();
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    graph.push(Op::Update(rule, vec![id.into()]), &[g], "update").unwrap();
    let plan = Plan::compile(gpu(), &graph, &PlanOptions::default()).unwrap();
    plan.store().write_mask(id, &Mask::from_frozen([true, false, false, true, false])).unwrap();
    let run = |gradient: [f32; 5]| {
        plan.write_f32(w, &[1.0; 5]).unwrap();
        plan.write_f32(g, &gradient).unwrap();
        plan.run(step_scalars(1.0)).unwrap();
        (plan.sums().unwrap().gradient_norm, plan.read_f32(w).unwrap())
    };
    let (norm, weights) = run([f32::NAN, 3.0, 0.0, f32::INFINITY, 4.0]);
    assert_eq!(norm, 5.0);
    for (got, expected) in weights.iter().zip([1.0, 0.4, 1.0, 1.0, 0.2]) {
        assert!((got - expected).abs() < 1e-6, "{weights:?}");
    }
    // Gradients near the overflow limit: squares overflow f32 above 1.8e19. A NaN gradient of a trainable
    // element makes all trainable weights NaN. An infinite gradient gives an infinite norm, which scales the
    // finite gradients to 0.
    assert!((run([0.0, 3e18, 0.0, 0.0, 4e18]).0 / 5e18 - 1.0).abs() < 1e-6);
    let (norm, weights) = run([0.0, f32::NAN, 1.0, 0.0, 1.0]);
    assert!(norm.is_nan() && weights[2].is_nan() && weights[0] == 1.0 && weights[3] == 1.0, "{weights:?}");
    let (norm, weights) = run([0.0, f32::INFINITY, 1.0, 0.0, 1.0]);
    assert!(norm.is_infinite() && weights[1].is_nan() && weights[2] == 1.0, "{weights:?}");
}

#[test]
fn clip_by_value_keeps_signs_and_nan() {
    let mut graph = Graph::new(1).unwrap();
    let values = [0.5, -0.5, 3.0, -3.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0];
    let shape = Shape::new([8]).unwrap();
    let w = graph.parameter("w", shape.clone()).unwrap();
    let g = graph.input("g", shape, DType::F32);
    let id = ParameterId::of(0);
    graph.push(Op::Clip(Clip::value(2.0), vec![id]), &[g], "clip").unwrap();
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    graph.push(Op::Update(rule, vec![id.into()]), &[g], "update").unwrap();
    let plan = Plan::compile(gpu(), &graph, &PlanOptions::default()).unwrap();
    plan.write_f32(g, &values).unwrap();
    plan.run(step_scalars(1.0)).unwrap();
    let weights = plan.read_f32(w).unwrap();
    assert_eq!(weights[..6], [-0.5, 0.5, -2.0, 2.0, -2.0, 2.0]);
    assert!(weights[6].is_nan() && weights[7] == 0.0);
    let kept: Vec<_> = plan.read_f32(g).unwrap().iter().map(|x| x.to_bits()).collect();
    assert_eq!(kept, values.map(f32::to_bits), "the stored gradient is not clipped");
}

#[test]
fn clip_above_the_norm_changes_no_bit() {
    for clip in [Clip::norm(1e9), Clip::value(1e9)] {
        let mut plain = trainer(Sgd::new(0.05).momentum(0.9).into(), options());
        let mut clipped = trainer(Optimizer::from(Sgd::new(0.05).momentum(0.9)).clip(clip), options());
        for t in [&mut plain, &mut clipped] {
            train(t, 6);
        }
        assert!(snapshot(&plain) == snapshot(&clipped), "{clip:?}");
    }
}

/// A dispatch updates at most 128 ranges of parameters with equal factors.
#[test]
fn many_parameters_with_different_factors_take_few_dispatches() {
    const PARAMETERS: usize = 300;
    let mut graph = Graph::new(1).unwrap();
    let mut gradients = Vec::new();
    let mut targets = Vec::new();
    for index in 0..PARAMETERS {
        // Lengths of one to three workgroups, and shorter ones.
        let shape = || Shape::new([1 + 37 * (index % 70)]).unwrap();
        graph.parameter(&format!("p{index}"), shape()).unwrap();
        gradients.push(graph.input(&format!("g{index}"), shape(), DType::F32));
        let factors = [1.0, 0.5, 0.0][index % 3];
        targets.push(Target { learning_rate: factors, ..ParameterId::of(index).into() });
    }
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    graph.push(Op::Update(rule, targets), &gradients, "update").unwrap();
    let plan = Plan::compile(gpu(), &graph, &PlanOptions::default()).unwrap();
    assert_eq!(plan.report().dispatches.len(), PARAMETERS.div_ceil(128));
    for (index, &gradient) in gradients.iter().enumerate() {
        plan.write_f32(gradient, &vec![index as f32; 1 + 37 * (index % 70)]).unwrap();
    }
    plan.run(StepScalars { learning_rate: 0.25, ..StepScalars::forward(1) }).unwrap();
    for index in 0..PARAMETERS {
        let weights = plan.store().read_weights(ParameterId::of(index)).unwrap();
        let expected = 0.0 - 0.25 * [1.0, 0.5, 0.0][index % 3] * index as f32;
        assert!(
            weights.iter().all(|&bits| f32::from_bits(bits) == expected),
            "parameter {index}: {expected}"
        );
    }
}

#[test]
fn learning_rate_and_weight_decay_factors_per_parameter() {
    let adamw = || Optimizer::from(AdamW::new(0.01).weight_decay(0.1));
    let run = |optimizer: Optimizer| {
        let mut t = trainer(optimizer, options());
        let before = snapshot(&t);
        train(&mut t, 1);
        (before, snapshot(&t))
    };
    let (before, plain) = run(adamw());
    assert!(
        plain == run(adamw().learning_rate_factor("*", 1.0).weight_decay_factor("*", 1.0)).1,
        "factors of 1 changed the update"
    );
    // Parameters with different factors are updated by one dispatch.
    let no_bias_decay = trainer(adamw().weight_decay_factor("*.bias", 0.0), options());
    let updates = no_bias_decay.report().dispatches.iter().filter(|d| d.kernel == "adam_update").count();
    assert_eq!(updates, 1);
    // If several globs match a parameter, the last one applies: `conv.*` has factor 0, other parameters have
    // factor 3.
    let none = run(adamw().learning_rate_factor("*", 3.0).learning_rate_factor("conv.*", 0.0)).1;
    assert!(
        none.0[..2].iter().zip(&before.0).all(|(now, old)| now[0] == old[0]),
        "learning-rate factor 0 changed a weight"
    );
    assert!(
        none.0[..2].iter().zip(&plain.0).all(|(now, expected)| now[1..] == expected[1..]),
        "the factor changed the state"
    );
    for parameter in 2..4 {
        let step = |after: &Snapshot, i: usize| {
            let (old, new) = (before.0[parameter][0][i], after.0[parameter][0][i]);
            f64::from(f32::from_bits(new)) - f64::from(f32::from_bits(old))
        };
        for i in 0..before.0[parameter][0].len() {
            assert!((step(&none, i) - 3.0 * step(&plain, i)).abs() < 1e-6, "{parameter} {i}");
        }
    }
    let no_kernel_decay = run(adamw().weight_decay_factor("*.kernel", 0.0)).1;
    let no_decay = run(AdamW::new(0.01).weight_decay(0.0).into()).1;
    assert!(
        no_kernel_decay.0[0] == no_decay.0[0] && no_kernel_decay.0[2] == no_decay.0[2],
        "decay factor 0 of kernels"
    );
    assert!(
        no_kernel_decay.0[1] == plain.0[1] && no_kernel_decay.0[3] == plain.0[3],
        "decay of biases is unchanged"
    );
    assert!(plain.0[0] != no_decay.0[0], "weight decay has no effect");

    let make =
        |optimizer| Trainer::new(gpu(), model(), frazil::Loss::SoftmaxCrossEntropy, optimizer, options());
    let error = make(adamw().weight_decay_factor("*.scale", 0.0)).unwrap_err();
    assert!(matches!(&error, Error::UnknownParameter { path, .. } if path == "*.scale"), "{error}");
    let error = make(adamw().learning_rate_factor("*.bias", -1.0)).unwrap_err();
    assert!(error.to_string().contains("*.bias"), "{error}");
}

#[test]
fn schedule_sets_the_learning_rate_of_each_step() {
    let schedule = LrSchedule::step(2, 0.5).warm_up(2);
    let mut scheduled = trainer(Optimizer::from(Sgd::new(0.1).momentum(0.9)).schedule(schedule), options());
    let mut by_hand = trainer(Sgd::new(0.1).momentum(0.9).into(), options());
    for (batch, factor) in batches(6).iter().zip([0.5, 1.0, 1.0, 1.0, 0.5, 0.5]) {
        by_hand.set_learning_rate(0.1 * factor).unwrap();
        by_hand.step(batch).unwrap();
        scheduled.step(batch).unwrap();
    }
    assert!(snapshot(&scheduled) == snapshot(&by_hand));
    // `set_learning_rate` changes the base rate and keeps the schedule.
    scheduled.set_learning_rate(0.4).unwrap();
    assert_eq!(scheduled.optimizer().learning_rate_at(6), 0.4 * 0.25);
}

#[test]
fn descriptions_differ_exactly_where_optimizers_do() {
    let sgd = || Optimizer::from(Sgd::new(0.1).momentum(0.9));
    let all = [
        sgd(),
        Sgd::new(0.1).into(),
        Sgd::new(0.1).momentum(0.9).nesterov(true).into(),
        sgd().clip(Clip::norm(1.0)),
        sgd().clip(Clip::norm(1.0).over_all()),
        sgd().clip(Clip::value(1.0)),
        sgd().learning_rate_factor("*", 2.0),
        sgd().weight_decay_factor("*", 2.0),
        sgd().schedule(LrSchedule::cosine(10)),
        Adam::new(0.1).into(),
        Adam::new(0.1).amsgrad(true).into(),
        Adam::new(0.1).bias_correction(BiasCorrection::TrainerSteps).into(),
        AdamW::new(0.1).into(),
        AdamW::new(0.1).bias_correction(BiasCorrection::TrainerSteps).into(),
        RmsProp::new(0.1).into(),
        RmsProp::new(0.1).centered(true).into(),
        frazil::Adagrad::new(0.1).into(),
    ];
    for (i, one) in all.iter().enumerate() {
        for (j, other) in all.iter().enumerate() {
            assert_eq!(one.describe() == other.describe(), i == j, "{} {}", one.describe(), other.describe());
        }
    }
    assert_eq!(
        sgd()
            .clip(Clip::norm(0.5))
            .schedule(LrSchedule::cosine(9).floor(0.1))
            .weight_decay_factor("*.bias", 0.0)
            .describe(),
        "sgd learning-rate=0.1 momentum=0.9 nesterov=false weight-decay=0 schedule=cosine:total=9,floor=0.1 \
         clip-norm=0.5 weight-decay-of=*.bias:0"
    );
}

#[test]
fn clip_and_accumulation_without_a_matching_update_are_errors() {
    let shape = Shape::new([3]).unwrap();
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let id = ParameterId::of(0);
    let start = || {
        let mut graph = Graph::new(1).unwrap();
        graph.parameter("w", shape.clone()).unwrap();
        let g = graph.input("g", shape.clone(), DType::F32);
        (graph, g)
    };
    let assert_error = |result: frazil::Result<Vec<frazil::low_level::ValueId>>, part: &str| {
        let error = result.unwrap_err();
        assert!(
            matches!(error, Error::InvalidArgument { .. }) && error.to_string().contains(part),
            "{error}"
        );
    };
    let (mut graph, g) = start();
    assert_error(graph.push(Op::Clip(Clip::norm(0.0), vec![id]), &[g], "clip"), "limit above 0");
    graph.push(Op::Accumulate(vec![id]), &[g], "sum").unwrap();
    assert_error(graph.push(Op::Accumulate(vec![id]), &[g], "sum"), "one accumulation");
    graph.push(Op::Clip(Clip::norm(1.0), vec![id]), &[g], "clip").unwrap();
    assert_error(graph.push(Op::Clip(Clip::value(1.0), vec![id]), &[g], "clip"), "one clip");
    // `Op::Clip` and `Op::Accumulate` require an `Op::Update` of the same gradients, and must precede it.
    let error = Plan::compile(gpu(), &graph, &PlanOptions::default()).unwrap_err();
    assert!(error.to_string().contains("gradients that an update of the graph reads"), "{error}");
    graph.push(Op::Update(rule, vec![id.into()]), &[g], "update").unwrap();
    Plan::compile(gpu(), &graph, &PlanOptions::default()).unwrap();
    let (mut graph, g) = start();
    let target = frazil::low_level::Target { learning_rate: -1.0, ..id.into() };
    assert_error(graph.push(Op::Update(rule, vec![target]), &[g], "update"), "factors");
    graph.push(Op::Update(rule, vec![id.into()]), &[g], "update").unwrap();
    assert_error(graph.push(Op::Clip(Clip::norm(1.0), vec![id]), &[g], "clip"), "one update");
    // `store` belongs to a graph without `Op::Accumulate`, so it has no memory for the accumulated gradients
    // of `other`.
    let (mut other, g) = start();
    other.push(Op::Accumulate(vec![id]), &[g], "sum").unwrap();
    other.push(Op::Update(rule, vec![id.into()]), &[g], "update").unwrap();
    let store = frazil::low_level::Store::new(gpu(), &graph).unwrap();
    let error = Plan::compile_with(gpu(), &other, &store, &PlanOptions::default()).unwrap_err();
    assert!(error.to_string().contains("accumulat"), "{error}");
}
