//! Batch norm as a whole: golden vectors, differences through the statistics, and its running statistics in training.

use crate::support::compare::assert_relative;
use crate::support::device::{device, families, gpu};
use crate::support::executor::{Make, reference};
use crate::support::golden::{Case, cases};
use frazil::graph::{DType, Graph, Op, ParameterId, ParameterKind, StatisticsRule, StepScalars, ValueId};
use frazil::reference::Reference;
use frazil::shape::Shape;
use frazil::{Batch, FreezeRule, Loss, Mask, Model, Sgd, Trainer, TrainerOptions};

const EPSILON: f64 = 1e-5;

/// Everything that a batch norm does in one step.
struct Whole {
    graph: Graph,
    x: ValueId,
    dy: ValueId,
    vectors: [ValueId; 4],
    y: ValueId,
    mean: ValueId,
    variance: ValueId,
    dx: ValueId,
    dscale: ValueId,
    dshift: ValueId,
}

fn whole(shape: &[usize], epsilon: f64, rule: impl Fn(usize) -> StatisticsRule) -> Whole {
    let channels = shape[shape.len() - 1];
    let vector = || Shape::new([channels]).unwrap();
    let mut graph = Graph::new(shape[0]).unwrap();
    let x = graph.batch_input("x", &shape[1..], DType::F32).unwrap();
    let dy = graph.batch_input("dy", &shape[1..], DType::F32).unwrap();
    let scale = graph.parameter("scale", vector()).unwrap();
    let shift = graph.parameter("shift", vector()).unwrap();
    let running_mean = graph.declare("running_mean", vector(), ParameterKind::Statistic).unwrap();
    let running_var = graph.declare("running_var", vector(), ParameterKind::Statistic).unwrap();
    let s = graph.push(Op::BatchStatistics { epsilon }, &[x], "statistics").unwrap();
    let y = graph.push_one(Op::BatchNorm { epsilon: None }, &[x, scale, shift, s[0], s[1]], "norm").unwrap();
    let dscale = graph.push_one(Op::BatchNormGradScale, &[x, dy, s[0], s[1]], "dscale").unwrap();
    let dshift = graph.push_one(Op::BiasGrad, &[dy], "dshift").unwrap();
    let operands = [x, dy, scale, s[0], s[1], dscale, dshift];
    let dx = graph.push_one(Op::BatchNormGradInput, &operands, "dx").unwrap();
    let per_example = shape[1..].iter().product::<usize>() / channels;
    let targets = [ParameterId::of(2), ParameterId::of(3)];
    graph.push(Op::UpdateStatistics(rule(per_example), targets), &[s[0], s[2]], "running").unwrap();
    [y, s[0], s[2], dx, dscale, dshift].iter().for_each(|&v| graph.mark_output(v).unwrap());
    let vectors = [scale, shift, running_mean, running_var];
    Whole { graph, x, dy, vectors, y, mean: s[0], variance: s[2], dx, dscale, dshift }
}

fn golden(make: Make, case: &Case, tolerance: f64) {
    let number = |field: &str| case.params[field].as_f64().unwrap();
    let fields = ["gamma", "beta", "running_mean", "running_var"];
    let hold = |name: &str, got: &[f64]| {
        let want = case.f64(&format!("{name}_f64"));
        assert_relative(&format!("{} {name}", case.name), got, &want, tolerance);
    };
    if case.params["mode"] == "eval" {
        use crate::support::executor::{Operand, evaluate_one};
        let mut operands = vec![Operand::batch(case.shape("input"), case.wide("input"))];
        for field in ["gamma", "beta", "running_mean", "running_var"] {
            operands.push(Operand::fixed(case.shape(field), case.wide(field)));
        }
        hold("output", &evaluate_one(make, Op::BatchNorm { epsilon: Some(number("eps")) }, &operands));
        return;
    }
    for biased in [false, true] {
        let rule = |per_example| StatisticsRule { momentum: number("momentum"), biased, per_example };
        let w = whole(case.shape("input"), number("eps"), rule);
        let mut executor = make(&w.graph);
        executor.write(w.x, &case.wide("input")).unwrap();
        executor.write(w.dy, &case.wide("grad_output")).unwrap();
        for (id, field) in w.vectors.into_iter().zip(fields) {
            executor.write(id, &case.wide(field)).unwrap();
        }
        executor.run(StepScalars::forward(case.shape("input")[0])).unwrap();
        let variance = if biased { "running_var_after_biased" } else { "running_var_after_unbiased" };
        for (name, id) in [
            ("output", w.y),
            ("batch_mean", w.mean),
            ("batch_var_biased", w.variance),
            ("grad_input", w.dx),
            ("grad_gamma", w.dscale),
            ("grad_beta", w.dshift),
            ("running_mean_after", w.vectors[2]),
            (variance, w.vectors[3]),
        ] {
            hold(name, &executor.read(id));
        }
    }
}

#[test]
fn batch_norm_golden() {
    let all = cases("batch_norm");
    for case in &all {
        // The vectors themselves agree to this between two libraries where a channel is far from 0 or constant.
        let hard = case.params["data"] != "normal";
        golden(&reference, case, if hard { 1e-10 } else { 1e-12 });
        for family in families().into_iter().take(1) {
            golden(&|graph: &Graph| device(graph, family), case, if hard { 1e-4 } else { 1e-5 });
        }
    }
}

#[test]
fn batch_norm_gradients_are_those_of_differences() {
    let w = whole(&[4, 3, 2], EPSILON, |per_example| StatisticsRule {
        momentum: 0.5,
        biased: false,
        per_example,
    });
    // No pattern of the channels repeats, and no channel is near constant.
    let wave =
        |n: usize, step: f64| (0..n).map(|i| (i as f64 * step).sin() + 0.1 * i as f64).collect::<Vec<_>>();
    let (x, dy) = (wave(24, 1.7), wave(24, 2.3));
    let vectors = [vec![0.7, -1.3], vec![0.2, 0.4]];
    let mut r = Reference::new(&w.graph).unwrap();
    r.write(w.dy, &dy).unwrap();
    let mut objective = |x: &[f64], scale: &[f64], shift: &[f64]| {
        r.write(w.x, x).unwrap();
        r.write(w.vectors[0], scale).unwrap();
        r.write(w.vectors[1], shift).unwrap();
        r.run(StepScalars::forward(4)).unwrap();
        r.read(w.y).iter().zip(&dy).map(|(y, dy)| y * dy).sum::<f64>()
    };
    let step = 1.0 / 16384.0;
    let mut numeric = [Vec::new(), Vec::new(), Vec::new()];
    let all = [x.clone(), vectors[0].clone(), vectors[1].clone()];
    for which in 0..3 {
        for index in 0..all[which].len() {
            let mut at = |by: f64| {
                let mut moved = all.clone();
                moved[which][index] += by;
                objective(&moved[0], &moved[1], &moved[2])
            };
            numeric[which].push((at(step) - at(-step)) / (2.0 * step));
        }
    }
    objective(&all[0], &all[1], &all[2]);
    for (id, numeric) in [w.dx, w.dscale, w.dshift].into_iter().zip(&numeric) {
        assert_relative("batch norm gradient", r.read(id), numeric, 1e-7);
    }
}

#[test]
fn a_statistic_is_not_moved_where_it_is_frozen() {
    let rule = |per_example| StatisticsRule { momentum: 0.25, biased: true, per_example };
    for family in families().into_iter().take(1) {
        let w = whole(&[2, 40], EPSILON, rule);
        let odd = f64::from(f32::MIN_POSITIVE);
        for make in [&reference as Make, &|graph: &Graph| device(graph, family)] {
            let mut e = make(&w.graph);
            e.write(w.x, &[vec![1.0; 40], vec![3.0; 40]].concat()).unwrap();
            e.write(w.vectors[2], &[odd; 40]).unwrap();
            e.write(w.vectors[3], &[-0.0; 40]).unwrap();
            let frozen = |index: usize| index.is_multiple_of(3) || index == 31 || index == 32;
            for parameter in [2, 3] {
                e.set_mask(ParameterId::of(parameter), &Mask::from_frozen((0..40).map(frozen))).unwrap();
            }
            e.run(StepScalars::forward(2)).unwrap();
            let (mean, variance) = (e.read(w.vectors[2]), e.read(w.vectors[3]));
            for index in 0..40 {
                let want = if frozen(index) { [odd, -0.0] } else { [0.5, 0.25] };
                assert_eq!(variance[index].to_bits(), want[1].to_bits(), "{index}");
                assert!((mean[index] - want[0]).abs() < if frozen(index) { 1e-300 } else { 1e-7 }, "{index}");
            }
        }
    }
}

fn small() -> Model {
    Model::input([4, 4, 1])
        .conv2d("conv1", 4, [3, 3], |c| c)
        .batch_norm("bn1")
        .relu()
        .flatten()
        .dense("fc", 3)
        .build()
        .unwrap()
}

fn batch(rows: usize, shift: f32) -> Batch {
    let features = (0..rows * 16).map(|i| (i as f32 * 0.7).sin() + shift).collect();
    Batch { features, labels: (0..rows as u32).map(|i| i % 3).collect(), ..Batch::default() }
}

fn trainer() -> Trainer {
    let options = TrainerOptions::batch(8).seed(3);
    Trainer::new(gpu(), small(), Loss::SoftmaxCrossEntropy, Sgd::new(0.05), options).unwrap()
}

#[test]
fn statistics_follow_until_they_are_frozen() {
    let mut t = trainer();
    assert_eq!(t.parameter("bn1.scale").unwrap(), [1.0; 4]);
    assert_eq!(t.parameter("bn1.running_var").unwrap(), [1.0; 4]);
    // Globs of `freeze` reach what is trained alone.
    assert_eq!(t.freeze("bn1.*", FreezeRule::all()).unwrap(), 8);
    assert!(t.freeze("bn1.running_mean", FreezeRule::all()).is_err());
    assert!(t.freeze_statistics("bn1.scale").is_err());
    t.step(&batch(8, 1.0)).unwrap();
    let moved = t.parameter("bn1.running_mean").unwrap();
    assert!(moved.iter().all(|&m| m != 0.0), "{moved:?}");
    t.freeze_statistics("bn1.running_*").unwrap();
    t.step(&batch(5, 2.0)).unwrap();
    assert_eq!(t.parameter("bn1.running_mean").unwrap(), moved);
    let report = t.verify_frozen().unwrap();
    assert_eq!(report.first_changed, None);
    assert_eq!(report.tensors.iter().map(|tensor| tensor.frozen).sum::<usize>(), 16);
    t.thaw_statistics("*").unwrap();
    t.step(&batch(8, 2.0)).unwrap();
    assert_ne!(t.parameter("bn1.running_mean").unwrap(), moved);
}

#[test]
fn a_wrong_loss_moves_no_statistic() {
    let mut t = trainer();
    let mut wrong = batch(8, 0.0);
    wrong.features[3] = f32::NAN;
    let _ = t.step(&wrong);
    assert_eq!(t.parameter("bn1.running_mean").unwrap(), [0.0; 4]);
    assert_eq!(t.parameter("bn1.running_var").unwrap(), [1.0; 4]);
}

#[test]
fn training_with_batch_norm_repeats_to_the_bit() {
    let run = || {
        let mut t = trainer();
        (0..5).for_each(|i| t.step(&batch(8 - i, i as f32)).unwrap());
        ["conv1.kernel", "bn1.scale", "bn1.running_var"].map(|path| t.parameter(path).unwrap())
    };
    assert_eq!(run(), run());
}
