//! Rules, clipping, factors and schedules, beyond what the golden trajectories hold.

use crate::support::compare::assert_relative;
use crate::support::device::gpu;
use crate::support::training::*;
use frazil::graph::{DType, Graph, Op, ParameterId, StepScalars, UpdateRule};
use frazil::mask::Mask;
use frazil::reference::Reference;
use frazil::shape::Shape;
use frazil::trainer::GradientPolicy;
use frazil::{
    Adam, AdamW, Clip, Error, FreezeRule, LrSchedule, Optimizer, Plan, PlanOptions, RmsProp, Sgd, Trainer,
    TrainerOptions,
};

fn options() -> TrainerOptions {
    TrainerOptions::batch(ROWS).seed(3)
}

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}

/// One update of one tensor on the reference and on the device, which must agree; gives weights and state.
fn both(
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
    for (index, want) in all.iter().enumerate() {
        let got = device(index);
        for (got, want) in got.iter().zip(want) {
            let near = (f64::from(*got) - want).abs() <= 1e-6 * (1.0 + want.abs());
            assert!(near || (got.is_nan() && want.is_nan()), "tensor {index}: {got} is not {want}");
        }
    }
    all
}

fn at_rate(learning_rate: f32) -> StepScalars {
    StepScalars { learning_rate, ..StepScalars::forward(1) }
}

#[test]
fn rules_by_hand() {
    // Second moments: v = 0.5*8 + 0.5*4 = 6 here, and a largest one of 16 before; m = 0.5*2.
    let amsgrad = UpdateRule::Adam {
        beta1: 0.5,
        beta2: 0.5,
        epsilon: 1.0,
        weight_decay: 0.0,
        decoupled: false,
        amsgrad: true,
    };
    let step = StepScalars { correction1: 0.5, correction2: 0.25, ..at_rate(1.0) };
    let all = both(amsgrad, step, 1, &[1.0; 2], &[2.0; 2], &[vec![0.0; 2], vec![8.0; 2], vec![16.0, 4.0]]);
    // The root is of the corrected largest: sqrt(16 / 0.25) = 8, and sqrt(6 / 0.25).
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
    // g = 3 + 0.5*2 = 4; v = 0.75*16 + 0.25*16 = 16; the step is 4 / 5.
    let all = both(rmsprop(0.0, false), at_rate(0.5), 1, &[2.0], &[3.0], &[vec![16.0]]);
    assert_eq!(all, [vec![2.0 - 0.5 * 0.8], vec![16.0]]);
    // And the buffer 0.5*2 + 0.8.
    let all = both(rmsprop(0.5, false), at_rate(0.5), 1, &[2.0], &[3.0], &[vec![16.0], vec![2.0]]);
    assert_eq!(all, [vec![2.0 - 0.5 * 1.8], vec![16.0], vec![1.8]]);
    // Mean gradient 0.75*(-4/3) + 0.25*4 = 0 leaves the root as it is; 0.75*(8/3) + 1 = 3 makes it sqrt(7).
    let all = both(rmsprop(0.0, true), at_rate(0.5), 1, &[2.0], &[3.0], &[vec![16.0], vec![8.0 / 3.0]]);
    assert!((all[0][0] - (2.0 - 2.0 / (7f64.sqrt() + 1.0))).abs() < 1e-7 && (all[2][0] - 3.0).abs() < 1e-7);
    let slots = [vec![16.0], vec![8.0 / 3.0], vec![2.0]];
    let all = both(rmsprop(0.5, true), at_rate(0.5), 1, &[2.0], &[3.0], &slots);
    assert!((all[3][0] - (1.0 + 4.0 / (7f64.sqrt() + 1.0))).abs() < 1e-7, "{all:?}");

    // g = 3; sum = 7 + 9; the step is 3 / 5.
    let adagrad = UpdateRule::Adagrad { epsilon: 1.0, weight_decay: 0.0 };
    assert_eq!(both(adagrad, at_rate(0.5), 1, &[2.0], &[3.0], &[vec![7.0]]), [vec![1.7], vec![16.0]]);
}

/// A mean gradient whose square exceeds the mean square leaves a root of 0, and no NaN; a NaN gradient stays one.
#[test]
fn a_centred_variance_below_zero_counts_as_zero() {
    let rule =
        UpdateRule::RmsProp { alpha: 0.5, epsilon: 0.5, momentum: 0.0, centered: true, weight_decay: 0.0 };
    let state = [vec![0.0, 0.0, 0.0], vec![1.0, 3.0, 1.0]];
    let all = both(rule, at_rate(1.0), 1, &[1.0; 3], &[0.0, 0.25, f32::NAN], &state);
    assert_eq!(all[0][..2], [1.0, 1.0 - 0.25 / 0.5]);
    assert!(all[0][2].is_nan());
}

#[test]
fn a_nan_second_moment_stays_in_the_largest() {
    let rule = UpdateRule::Adam {
        beta1: 0.5,
        beta2: 0.5,
        epsilon: 1.0,
        weight_decay: 0.0,
        decoupled: false,
        amsgrad: true,
    };
    let state = [vec![0.0; 2], vec![0.0; 2], vec![5.0; 2]];
    let all = both(rule, at_rate(1.0), 1, &[1.0; 2], &[f32::NAN, 1.0], &state);
    assert!(all[3][0].is_nan() && all[3][1] == 5.0, "{all:?}");
}

fn clipped(clip: Clip) -> Optimizer {
    Optimizer::from(Sgd::new(0.25)).clip(clip)
}

fn gradient(t: &Trainer, path: &str) -> Vec<f32> {
    t.gradient(path).unwrap()
}

const PATHS: [&str; 4] = ["conv.kernel", "conv.bias", "fc.kernel", "fc.bias"];

/// F6: the norm counts frozen elements, so that trainable ones are clipped too much.
#[test]
fn f6_the_norm_counts_trainable_elements_alone() {
    for over_all in [false, true] {
        let clip = if over_all { Clip::norm(0.1).over_all() } else { Clip::norm(0.1) };
        let dense = options().keep_gradients(true).gradient_policy(GradientPolicy::Dense);
        let mut t = trainer(clipped(clip), dense);
        t.freeze("*", FreezeRule::random(0.5).seed(1)).unwrap();
        let before = snapshot(&t);
        train(&mut t, 1);
        let (mut live, mut all) = (0.0, 0.0);
        for path in PATHS {
            for (i, g) in gradient(&t, path).into_iter().enumerate() {
                let square = f64::from(g) * f64::from(g);
                all += square;
                live += if t.mask(path).unwrap().is_frozen(i) { 0.0 } else { square };
            }
        }
        assert!(all > 1.5 * live, "frozen elements would not be noticed");
        let norm = if over_all { all.sqrt() } else { live.sqrt() };
        assert_relative("norm", &[t.gradient_norm().unwrap().into()], &[norm], 1e-6);
        assert_frozen("clip", &t, &before);
        // The weights moved by the clipped gradient; what is read is the one before clipping.
        let scale = 0.1 / (norm + 1e-6);
        assert!(scale < 0.9);
        for (index, path) in PATHS.iter().enumerate() {
            let (g, now) = (gradient(&t, path), t.parameter(path).unwrap());
            for i in (0..g.len()).filter(|&i| !t.mask(path).unwrap().is_frozen(i)) {
                let old = f64::from(f32::from_bits(before.0[index][0][i]));
                let want = old - 0.25 * scale * f64::from(g[i]);
                assert!((f64::from(now[i]) - want).abs() < 1e-7, "{path} {i}");
            }
        }
    }
    let mut free = trainer(Sgd::new(0.1).into(), options());
    train(&mut free, 1);
    assert!(matches!(free.gradient_norm(), Err(Error::InvalidArgument { .. })));
}

/// Poison in a frozen element's gradient does not reach the norm, whether it is in the whole batch or not.
#[test]
fn a_nan_at_a_frozen_place_is_not_in_the_norm() {
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
        plan.run(at_rate(1.0)).unwrap();
        (plan.sums().unwrap().gradient_norm, plan.read_f32(w).unwrap())
    };
    let (norm, weights) = run([f32::NAN, 3.0, 0.0, f32::INFINITY, 4.0]);
    assert_eq!(norm, 5.0);
    for (got, want) in weights.iter().zip([1.0, 0.4, 1.0, 1.0, 0.2]) {
        assert!((got - want).abs() < 1e-6, "{weights:?}");
    }
    // Large ones are fine up to 1.8e19; a trainable NaN poisons what is trainable, and an infinite norm stops the rest.
    assert!((run([0.0, 3e18, 0.0, 0.0, 4e18]).0 / 5e18 - 1.0).abs() < 1e-6);
    let (norm, weights) = run([0.0, f32::NAN, 1.0, 0.0, 1.0]);
    assert!(norm.is_nan() && weights[2].is_nan() && weights[0] == 1.0 && weights[3] == 1.0, "{weights:?}");
    let (norm, weights) = run([0.0, f32::INFINITY, 1.0, 0.0, 1.0]);
    assert!(norm.is_infinite() && weights[1].is_nan() && weights[2] == 1.0, "{weights:?}");
}

#[test]
fn clipping_by_value_keeps_signs_and_nan() {
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
    plan.run(at_rate(1.0)).unwrap();
    let weights = plan.read_f32(w).unwrap();
    assert_eq!(weights[..6], [-0.5, 0.5, -2.0, 2.0, -2.0, 2.0]);
    assert!(weights[6].is_nan() && weights[7] == 0.0);
    let kept: Vec<_> = plan.read_f32(g).unwrap().iter().map(|x| x.to_bits()).collect();
    assert_eq!(kept, values.map(f32::to_bits), "the gradient itself is not clipped");
}

#[test]
fn a_clip_beyond_reach_changes_no_bit() {
    for clip in [Clip::norm(1e9), Clip::value(1e9)] {
        let mut plain = trainer(Sgd::new(0.05).momentum(0.9).into(), options());
        let mut loose = trainer(Optimizer::from(Sgd::new(0.05).momentum(0.9)).clip(clip), options());
        for t in [&mut plain, &mut loose] {
            train(t, 6);
        }
        assert!(snapshot(&plain) == snapshot(&loose), "{clip:?}");
    }
}

#[test]
fn factors_of_parameters() {
    let adamw = || Optimizer::from(AdamW::new(0.01).weight_decay(0.1));
    let run = |optimizer: Optimizer| {
        let mut t = trainer(optimizer, options());
        let before = snapshot(&t);
        train(&mut t, 1);
        (before, snapshot(&t))
    };
    let (before, plain) = run(adamw());
    assert!(plain == run(adamw().learning_rate_of("*", 1.0).weight_decay_of("*", 1.0)).1, "factors of 1");
    // Later globs win.
    let none = run(adamw().learning_rate_of("*", 3.0).learning_rate_of("conv.*", 0.0)).1;
    assert!(none.0[..2].iter().zip(&before.0).all(|(now, old)| now[0] == old[0]), "factor 0 of the rate");
    assert!(none.0[..2].iter().zip(&plain.0).all(|(now, want)| now[1..] == want[1..]), "its state goes on");
    for parameter in 2..4 {
        let step = |after: &Snapshot, i: usize| {
            let (old, new) = (before.0[parameter][0][i], after.0[parameter][0][i]);
            f64::from(f32::from_bits(new)) - f64::from(f32::from_bits(old))
        };
        for i in 0..before.0[parameter][0].len() {
            assert!((step(&none, i) - 3.0 * step(&plain, i)).abs() < 1e-6, "{parameter} {i}");
        }
    }
    let kept = run(adamw().weight_decay_of("*.kernel", 0.0)).1;
    let free = run(AdamW::new(0.01).weight_decay(0.0).into()).1;
    assert!(kept.0[0] == free.0[0] && kept.0[2] == free.0[2], "no decay of kernels");
    assert!(kept.0[1] == plain.0[1] && kept.0[3] == plain.0[3], "decay of biases");
    assert!(plain.0[0] != free.0[0], "decay does something");

    let make =
        |optimizer| Trainer::new(gpu(), model(), frazil::Loss::SoftmaxCrossEntropy, optimizer, options());
    let error = make(adamw().weight_decay_of("*.scale", 0.0)).unwrap_err();
    assert!(matches!(&error, Error::UnknownParameter { path, .. } if path == "*.scale"), "{error}");
    let error = make(adamw().learning_rate_of("*.bias", -1.0)).unwrap_err();
    assert!(error.to_string().contains("*.bias"), "{error}");
}

#[test]
fn a_schedule_sets_the_rate_of_each_step() {
    let schedule = LrSchedule::step(2, 0.5).warm_up(2);
    let mut scheduled = trainer(Optimizer::from(Sgd::new(0.1).momentum(0.9)).schedule(schedule), options());
    let mut by_hand = trainer(Sgd::new(0.1).momentum(0.9).into(), options());
    for (batch, factor) in batches(6).iter().zip([0.5, 1.0, 1.0, 1.0, 0.5, 0.5]) {
        by_hand.set_learning_rate(0.1 * factor).unwrap();
        by_hand.step(batch).unwrap();
        scheduled.step(batch).unwrap();
    }
    assert!(snapshot(&scheduled) == snapshot(&by_hand));
    // The base rate is what is set; the schedule goes on.
    scheduled.set_learning_rate(0.4).unwrap();
    assert_eq!(scheduled.optimizer().learning_rate_at(6), 0.4 * 0.25);
}

#[test]
fn descriptions_differ_where_optimizers_do() {
    let sgd = || Optimizer::from(Sgd::new(0.1).momentum(0.9));
    let all = [
        sgd(),
        Sgd::new(0.1).into(),
        Sgd::new(0.1).momentum(0.9).nesterov(true).into(),
        sgd().clip(Clip::norm(1.0)),
        sgd().clip(Clip::norm(1.0).over_all()),
        sgd().clip(Clip::value(1.0)),
        sgd().learning_rate_of("*", 2.0),
        sgd().weight_decay_of("*", 2.0),
        sgd().schedule(LrSchedule::cosine(10)),
        Adam::new(0.1).into(),
        Adam::new(0.1).amsgrad(true).into(),
        AdamW::new(0.1).into(),
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
            .weight_decay_of("*.bias", 0.0)
            .describe(),
        "sgd learning-rate=0.1 momentum=0.9 nesterov=false weight-decay=0 schedule=cosine:total=9,floor=0.1 \
         clip-norm=0.5 weight-decay-of=*.bias:0"
    );
}

#[test]
fn graphs_that_clip_or_accumulate_what_they_do_not_update_are_refused() {
    let shape = Shape::new([3]).unwrap();
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let id = ParameterId::of(0);
    let start = || {
        let mut graph = Graph::new(1).unwrap();
        graph.parameter("w", shape.clone()).unwrap();
        let g = graph.input("g", shape.clone(), DType::F32);
        (graph, g)
    };
    let refused = |result: frazil::Result<Vec<frazil::graph::ValueId>>, part: &str| {
        let error = result.unwrap_err();
        assert!(
            matches!(error, Error::InvalidArgument { .. }) && error.to_string().contains(part),
            "{error}"
        );
    };
    let (mut graph, g) = start();
    refused(graph.push(Op::Clip(Clip::norm(0.0), vec![id]), &[g], "clip"), "limit above 0");
    graph.push(Op::Accumulate(vec![id]), &[g], "sum").unwrap();
    refused(graph.push(Op::Accumulate(vec![id]), &[g], "sum"), "one accumulation");
    graph.push(Op::Clip(Clip::norm(1.0), vec![id]), &[g], "clip").unwrap();
    refused(graph.push(Op::Clip(Clip::value(1.0), vec![id]), &[g], "clip"), "one clip");
    // Neither without an update, nor after it.
    let error = Plan::compile(gpu(), &graph, &PlanOptions::default()).unwrap_err();
    assert!(error.to_string().contains("gradients that an update reads"), "{error}");
    graph.push(Op::Update(rule, vec![id.into()]), &[g], "update").unwrap();
    Plan::compile(gpu(), &graph, &PlanOptions::default()).unwrap();
    let (mut graph, g) = start();
    let target = frazil::graph::Target { learning_rate: -1.0, ..id.into() };
    refused(graph.push(Op::Update(rule, vec![target]), &[g], "update"), "factors");
    graph.push(Op::Update(rule, vec![id.into()]), &[g], "update").unwrap();
    refused(graph.push(Op::Clip(Clip::norm(1.0), vec![id]), &[g], "clip"), "one update");
    // A store without room for the sums.
    let (mut other, g) = start();
    other.push(Op::Accumulate(vec![id]), &[g], "sum").unwrap();
    other.push(Op::Update(rule, vec![id.into()]), &[g], "update").unwrap();
    let store = frazil::engine::Store::new(gpu(), &graph).unwrap();
    let error = Plan::compile_with(gpu(), &other, &store, &PlanOptions::default()).unwrap_err();
    assert!(error.to_string().contains("accumulates"), "{error}");
}
