//! Tests of batch norm: golden vectors, gradients through the batch statistics, and running statistics during
//! training.

use crate::support::compare::assert_relative;
use crate::support::device::{device, families, gpu};
use crate::support::executor::{Make, Operand, evaluate_one, reference};
use crate::support::golden::{Case, cases};
use crate::support::gradients::assert_gradients;
use frazil::low_level::Shape;
use frazil::low_level::{DType, Graph, Op, ParameterId, ParameterKind, StatisticsRule, StepScalars, ValueId};
use frazil::{Batch, Dataset, Error, FreezeRule, Loss, Mask, Model, Sgd, Trainer, TrainerOptions};

const EPSILON: f64 = 1e-5;

/// The graph of one training step of a batch norm: the forward pass, the gradients of `sum(y * dy)`, and the
/// update of the running statistics.
struct Step {
    graph: Graph,
    x: ValueId,
    dy: ValueId,
    /// Scale, shift, running mean and running variance, each `[channels]`.
    vectors: [ValueId; 4],
    y: ValueId,
    mean: ValueId,
    variance: ValueId,
    dx: ValueId,
    dscale: ValueId,
    dshift: ValueId,
    loss: ValueId,
}

/// Builds the graph of a step for `x` of `shape`, `[batch, .., channels]`. `rule` creates the update rule of
/// the running statistics from the number of values that one example has per channel.
fn step(shape: &[usize], epsilon: f64, rule: impl Fn(usize) -> StatisticsRule) -> Step {
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
    // `Graph::backward` differentiates the mean of a loss. Scaling the loss by the number of elements makes
    // this mean equal `sum(y * dy)`.
    let elements = shape.iter().product::<usize>();
    let weighted = graph.push_one(Op::Mul, &[y, dy], "weighted").unwrap();
    let loss = graph.push_one(Op::Scale(elements as f64), &[weighted], "loss").unwrap();
    let gradients = graph.backward(loss, &[x, scale, shift]).unwrap();
    let [dx, dscale, dshift] = [gradients[0], gradients[1], gradients[2]];
    let per_example = shape[1..].iter().product::<usize>() / channels;
    let targets = [ParameterId::of(2), ParameterId::of(3)];
    graph.push(Op::UpdateStatistics(rule(per_example), targets), &[s[0], s[2]], "running").unwrap();
    [y, s[0], s[2], dx, dscale, dshift].iter().for_each(|&v| graph.mark_output(v).unwrap());
    let vectors = [scale, shift, running_mean, running_var];
    Step { graph, x, dy, vectors, y, mean: s[0], variance: s[2], dx, dscale, dshift, loss }
}

/// Compares a batch norm with the golden results of a case, in the case's mode: training or evaluation.
fn assert_golden(make: Make, case: &Case, tolerance: f64) {
    let number = |field: &str| case.params[field].as_f64().unwrap();
    let fields = ["gamma", "beta", "running_mean", "running_var"];
    let assert_result = |name: &str, got: &[f64]| {
        let want = case.f64(&format!("{name}_f64"));
        assert_relative(&format!("{} {name}", case.name), got, &want, tolerance);
    };
    if case.params["mode"] == "eval" {
        let mut operands = vec![Operand::batch(case.shape("input"), case.wide("input"))];
        for field in fields {
            operands.push(Operand::fixed(case.shape(field), case.wide(field)));
        }
        let op = Op::BatchNorm { epsilon: Some(number("eps")) };
        assert_result("output", &evaluate_one(make, op, &operands));
        return;
    }
    for biased in [false, true] {
        let rule = |per_example| StatisticsRule { momentum: number("momentum"), biased, per_example };
        let w = step(case.shape("input"), number("eps"), rule);
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
            assert_result(name, &executor.read(id));
        }
    }
}

#[test]
fn batch_norm_golden() {
    let all = cases("batch_norm");
    for case in &all {
        // A channel that is constant or has a mean of 100 is ill-conditioned: even the libraries that
        // computed the golden vectors agree only to 1e-10.
        let ill_conditioned = case.params["data"] != "normal";
        assert_golden(&reference, case, if ill_conditioned { 1e-10 } else { 1e-12 });
        for family in families() {
            let tolerance = if ill_conditioned { 1e-4 } else { 1e-5 };
            assert_golden(&|graph: &Graph| device(graph, family), case, tolerance);
        }
    }
}

#[test]
fn batch_norm_gradients_match_differences() {
    let rule = |per_example| StatisticsRule { momentum: 0.5, biased: false, per_example };
    let Step { graph, x, dy, vectors, dx, dscale, dshift, loss, .. } = step(&[4, 3, 2], EPSILON, rule);
    // A wave plus a slope: no two channels are equal, and no channel is near constant, where batch norm would
    // be ill-conditioned.
    let wave =
        |n: usize, step: f64| (0..n).map(|i| (i as f64 * step).sin() + 0.1 * i as f64).collect::<Vec<_>>();
    let data = vec![
        (x, wave(24, 1.7)),
        (dy, wave(24, 2.3)),
        (vectors[0], vec![0.7, -1.3]),
        (vectors[1], vec![0.2, 0.4]),
    ];
    let pairs = [(x, dx), (vectors[0], dscale), (vectors[1], dshift)];
    assert_gradients("batch norm", &graph, loss, &pairs, &data, 1.0 / 16384.0, 1e-7);
}

#[test]
fn frozen_running_statistics_keep_their_bits() {
    let rule = |per_example| StatisticsRule { momentum: 0.25, biased: true, per_example };
    for family in families() {
        let w = step(&[2, 40], EPSILON, rule);
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
fn running_statistics_are_updated_unless_frozen() {
    let mut t = trainer();
    assert_eq!(t.parameter("bn1.scale").unwrap(), [1.0; 4]);
    assert_eq!(t.parameter("bn1.running_var").unwrap(), [1.0; 4]);
    // `freeze` accepts the paths of trained parameters only, and `freeze_statistics` those of running
    // statistics only.
    assert_eq!(t.freeze("bn1.*", FreezeRule::all()).unwrap(), 8);
    let refused = t.freeze("bn1.running_mean", FreezeRule::all()).unwrap_err();
    assert!(matches!(refused, Error::InvalidArgument { .. }), "{refused}");
    for part in ["bn1.running_mean", "freeze_statistics", "--freeze-statistics"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    let refused = t.freeze_statistics("bn1.sc*").unwrap_err().to_string();
    assert!(refused.contains("bn1.scale") && refused.contains("Trainer::freeze "), "{refused}");
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
fn a_loss_that_is_not_finite_changes_no_running_statistic() {
    let mut t = trainer();
    let mut bad = batch(8, 0.0);
    bad.features[3] = f32::NAN;
    let _ = t.step(&bad);
    assert_eq!(t.parameter("bn1.running_mean").unwrap(), [0.0; 4]);
    assert_eq!(t.parameter("bn1.running_var").unwrap(), [1.0; 4]);
}

#[test]
fn training_with_batch_norm_repeats_bit_for_bit() {
    let run = || {
        let mut t = trainer();
        (0..5).for_each(|i| t.step(&batch(8 - i, i as f32)).unwrap());
        ["conv1.kernel", "bn1.scale", "bn1.running_var"].map(|path| t.parameter(path).unwrap())
    };
    assert_eq!(run(), run());
}

fn fc_then_norm(use_running: bool) -> Trainer {
    let model = Model::input([4, 4, 1])
        .flatten()
        .dense("fc1", 5)
        .batch_norm_with("bn", |n| n.use_running_statistics(use_running))
        .relu()
        .dense("fc2", 3)
        .build()
        .unwrap();
    let options = TrainerOptions::batch(8).seed(3).accumulate(true);
    Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, Sgd::new(0.05), options).unwrap()
}

/// A channel with one value has variance 0: a step on it would ruin the running variance.
#[test]
fn a_training_batch_with_one_value_per_channel_is_refused() {
    let mut t = fc_then_norm(false);
    t.step(&batch(8, 0.5)).unwrap();
    assert_eq!(t.smallest_batch(), 2);
    let before = t.snapshot().unwrap();
    let one = batch(1, 0.5);
    let refused = |result: frazil::Result<()>| {
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::InvalidArgument { at, .. } if at == "bn"), "{error}");
        assert!(error.to_string().contains("2 values per channel"), "{error}");
    };
    refused(t.step(&one));
    refused(t.step_loss(&one).map(drop));
    refused(t.step_over(&[batch(8, 0.5), one.clone()]));
    refused(t.profile_step(&one).map(drop));
    assert!(t.snapshot().unwrap() == before, "a refused step changes nothing");
    // A batch of two, images with several pixels, evaluation, and running statistics allow it.
    t.step(&batch(2, 0.5)).unwrap();
    assert_eq!(t.predict(&one.features).unwrap().len(), 3);
    trainer().step(&one).unwrap();
    let mut t = fc_then_norm(true);
    assert_eq!(t.smallest_batch(), 1);
    t.step(&one).unwrap();
    assert_eq!(t.parameter("bn.running_var").unwrap(), [1.0; 5]);
}

/// Frozen statistics are bit-exact through training, a checkpoint and a resumed training, and the proof
/// covers them.
#[test]
fn frozen_statistics_keep_their_bits_through_save_and_load() {
    let file = std::env::temp_dir().join(format!("frazil-statistics-{}.safetensors", std::process::id()));
    let mut t = trainer();
    t.step(&batch(8, 1.0)).unwrap();
    t.freeze("*", FreezeRule::random(0.5)).unwrap();
    t.freeze_statistics("bn1").unwrap();
    let bits = |t: &Trainer| {
        ["bn1.running_mean", "bn1.running_var"]
            .map(|path| t.parameter(path).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>())
    };
    let frozen = bits(&t);
    t.step(&batch(8, 2.0)).unwrap();
    t.save(&file).unwrap();
    let mut resumed = trainer();
    resumed.load(&file).unwrap();
    for t in [&mut t, &mut resumed] {
        t.step(&batch(5, 3.0)).unwrap();
        assert_eq!(bits(t), frozen);
        let proof = t.verify_frozen().unwrap();
        assert_eq!((proof.changed(), &proof.moving_statistics), (0, &Vec::new()), "{proof}");
        let frozen = |path: &str| proof.tensors.iter().find(|tensor| tensor.path == path).unwrap().frozen;
        assert_eq!((frozen("bn1.running_mean"), frozen("bn1.running_var")), (4, 4));
    }
    assert_eq!(t.digest().unwrap(), resumed.digest().unwrap());
    std::fs::remove_file(&file).unwrap();
    // The proof compares them with the day of freezing.
    t.store().write_weights(ParameterId::of(4), &[0; 4]).unwrap();
    assert_eq!(t.verify_frozen().unwrap().first_changed.unwrap().path, "bn1.running_mean");
}

/// The report names the statistics that move although every weight of their layer is frozen.
#[test]
fn moving_statistics_of_frozen_layers_are_reported() {
    let mut t = trainer();
    assert_eq!(t.verify_frozen().unwrap().moving_statistics, Vec::<String>::new());
    t.freeze("bn1.*", FreezeRule::all()).unwrap();
    let report = t.verify_frozen().unwrap();
    assert_eq!(report.moving_statistics, ["bn1.running_mean", "bn1.running_var"]);
    let line = "running statistics bn1.running_mean, bn1.running_var";
    assert!(report.to_string().contains(line), "{report}");
    t.freeze_statistics("bn1.running_mean").unwrap();
    assert_eq!(t.verify_frozen().unwrap().moving_statistics, ["bn1.running_var"]);
    t.freeze_statistics("*").unwrap();
    let report = t.verify_frozen().unwrap();
    assert!(report.moving_statistics.is_empty() && !report.to_string().contains("statistics"), "{report}");
}

/// With the running statistics, training and evaluation compute the same function: the loss of a step is the
/// loss of evaluation, and training moves no statistic.
#[test]
fn a_norm_that_uses_running_statistics_trains_as_it_evaluates() {
    let model = || small().use_running_statistics("bn1").unwrap();
    let make = |model| {
        let options = TrainerOptions::batch(8).seed(3);
        let mut t = Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, Sgd::new(0.05), options).unwrap();
        t.set_parameter("bn1.running_mean", &[0.25, -0.5, 0.125, 1.0]).unwrap();
        t.set_parameter("bn1.running_var", &[0.5, 2.0, 1.5, 0.75]).unwrap();
        t
    };
    let mut t = make(model());
    let examples = batch(8, 0.3);
    let data =
        Dataset::new("data", [4, 4, 1], examples.features.clone(), examples.labels.clone(), 3).unwrap();
    let statistics = |t: &Trainer| ["bn1.running_mean", "bn1.running_var"].map(|p| t.parameter(p).unwrap());
    let before = statistics(&t);
    let mut losses = Vec::new();
    for _ in 0..10 {
        let evaluated = t.evaluate(&data).unwrap().loss;
        let stepped = f64::from(t.step_loss(&examples).unwrap());
        assert!((stepped - evaluated).abs() < 1e-6 * evaluated, "{stepped} {evaluated}");
        losses.push(stepped);
    }
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0]), "{losses:?}");
    assert_eq!(statistics(&t), before);
    assert_ne!(t.parameter("bn1.scale").unwrap(), [1.0; 4]);
    // A norm with the statistics of the batch computes another loss.
    let batch_loss = f64::from(make(small()).step_loss(&examples).unwrap());
    assert!((batch_loss - losses[0]).abs() > 0.01 * losses[0], "{batch_loss} {losses:?}");
    match small().use_running_statistics("conv1") {
        Err(Error::UnknownParameter { path, similar }) => {
            assert_eq!((&*path, &similar[..]), ("conv1", &["bn1".to_owned()][..]))
        }
        other => panic!("{other:?}"),
    }
    for name in ["resnet20", "mobilenet-small"] {
        let model = Model::named(name).unwrap().use_running_statistics("*.running_*").unwrap();
        let trained = model
            .training_graph(2, Loss::SoftmaxCrossEntropy, *frazil::Optimizer::from(Sgd::new(0.1)).rule())
            .unwrap();
        assert!(
            trained.graph.nodes().iter().all(|node| !matches!(node.op, Op::UpdateStatistics(..))),
            "{name}"
        );
    }
}

/// The lowest layers with a frozen batch norm that uses its running statistics are computed once, and steps
/// on their outputs have the bits of whole steps.
#[test]
fn cached_outputs_pass_a_frozen_norm_that_uses_running_statistics() {
    let make = |model: Model| {
        let options = TrainerOptions::batch(8).seed(3);
        let mut t = Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, Sgd::new(0.05), options).unwrap();
        t.set_parameter("bn1.running_mean", &[0.25, -0.5, 0.125, 1.0]).unwrap();
        t.freeze("conv1.*", FreezeRule::all()).unwrap();
        t.freeze("bn1.*", FreezeRule::all()).unwrap();
        t
    };
    let mut t = make(small());
    t.freeze_statistics("*").unwrap();
    assert_eq!(t.frozen_prefix(), 1, "the statistics of the batch end the cached part");
    let running = || small().use_running_statistics("*").unwrap();
    assert_eq!(make(running()).frozen_prefix(), 1, "statistics that are not frozen do, too");
    let (mut whole, mut above) = (make(running()), make(running()));
    whole.freeze_statistics("*").unwrap();
    above.freeze_statistics("*").unwrap();
    assert_eq!(above.frozen_prefix(), 4);
    let examples = batch(24, 0.3);
    let data = Dataset::new("data", [4, 4, 1], examples.features, examples.labels, 3).unwrap();
    let features = above.prefix_features(&data).unwrap();
    for epoch in 0..2 {
        let batches = data.batches_for_epoch(8, 7, epoch).unwrap();
        for (batch, cached) in batches.zip(features.batches_for_epoch(8, 7, epoch).unwrap()) {
            whole.step(&batch).unwrap();
            above.step_above(&cached).unwrap();
        }
    }
    assert_eq!(whole.digest().unwrap(), above.digest().unwrap());
    above.thaw_statistics("bn1").unwrap();
    assert!(
        above.step_above(&features.in_order(8).unwrap().next().unwrap()).is_err(),
        "the cache is invalid"
    );
}
