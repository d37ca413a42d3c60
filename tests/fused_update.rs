//! Products of weight gradients that end with the update of their weights: the same bits as with updates by themselves, and what is
//! frozen stays.

use crate::support::device::{families, gpu};
use crate::support::say;
use crate::support::training::*;
use frazil::graph::{DType, Graph, Op, ParameterId, StepScalars, UpdateRule};
use frazil::kernels::GemmFamily;
use frazil::trainer::OnNonFinite;
use frazil::{
    Adam, Batch, Clip, Dataset, Error, Loss, Model, Optimizer, Padding, Plan, PlanOptions, Sgd, Trainer,
    TrainerOptions,
};

/// Convolutions with a stride, in groups, and of single pixels; and layers whose columns come in fours, but for the last.
fn model() -> Model {
    Model::input([6, 6, 4])
        .conv2d("strided", 8, [3, 3], |c| c.stride([2, 2]).padding(Padding::Same))
        .relu()
        .conv2d("grouped", 16, [3, 3], |c| c.groups(2).padding(Padding::Same))
        .relu()
        .conv2d("pointwise", 12, [1, 1], |c| c)
        .relu()
        .flatten()
        .dense("fc1", 20)
        .relu()
        .dense("fc2", 5)
        .build()
        .unwrap()
}

/// Kernels whose gradients are one product each, with columns by fours.
const FUSED: [&str; 4] = ["strided.kernel", "grouped.kernel", "pointwise.kernel", "fc1.kernel"];

fn data() -> Dataset {
    frazil::data::synthetic("synthetic", [6, 6, 4], 5, 22, 11).unwrap()
}

fn batches() -> Vec<Batch> {
    data().batches(ROWS, 5).unwrap().collect()
}

fn trainer(optimizer: Optimizer, options: TrainerOptions) -> Trainer {
    Trainer::new(gpu(), model(), Loss::SoftmaxCrossEntropy, optimizer, options).unwrap()
}

/// After a round of batches, the last of them short, with half of everything frozen.
fn trained(optimizer: Optimizer, options: TrainerOptions) -> (Trainer, Snapshot) {
    let mut trainer = trainer(optimizer, options);
    plant(&mut trainer, &ODD_FINITE_BITS);
    let before = snapshot(&trainer);
    batches().iter().for_each(|batch| trainer.step(batch).unwrap());
    (trainer, before)
}

/// Whether a parameter's gradient was never written: it lies in memory as it was made.
fn never_written(trainer: &Trainer, path: &str) -> bool {
    let number = trainer.model().parameters().iter().position(|p| p.path == path).unwrap();
    trainer.store().read_gradient(ParameterId::of(number)).unwrap().iter().all(|&bits| bits == 0)
}

/// Whether the adapter has buffers for the rule's state, beside six others; where not, and only there, updates stay apart.
fn fits(trainer: &Trainer) -> bool {
    let fits = 6 + trainer.store().slots().len() <= gpu().report().max_storage_buffers as usize;
    if !fits {
        say("fused_update: SKIPPED, 1 rule: its state needs more buffers than the adapter has");
    }
    fits
}

fn same_bits(name: &str, optimizer: &Optimizer, family: GemmFamily) {
    let options = going_on().family(family);
    let (apart, _) = trained(optimizer.clone(), options.clone());
    let (fused, before) = trained(optimizer.clone(), options.fuse_updates(true));
    assert!(snapshot(&fused) == snapshot(&apart), "{name}, {family}: other bits than with updates apart");
    assert_frozen(&format!("{name}, {family}"), &fused, &before);
    let (moved, trainable) = moved(&fused, &before);
    assert!(2 * moved > trainable, "{name}, {family}: {moved} of {trainable} moved");
    let fuses = fits(&fused);
    for path in FUSED {
        let unwritten = [&fused, &apart].map(|trainer| never_written(trainer, path));
        assert_eq!(unwritten, [fuses, false], "{name}, {family}: {path}");
    }
    assert!(!never_written(&fused, "fc2.kernel"), "{name}, {family}: columns not by fours");
}

#[test]
fn every_rule_makes_the_same_bits() {
    let clipped = |name: &str| name.contains("clip");
    let rules: Vec<_> = optimizers().into_iter().filter(|(name, _)| !clipped(name)).collect();
    assert!(rules.len() > 15);
    let own = GemmFamily::choose(gpu().report());
    for (name, optimizer) in &rules {
        same_bits(name, optimizer, own);
    }
}

#[test]
fn every_family_makes_the_same_bits() {
    for family in families() {
        same_bits("momentum", &Sgd::new(0.05).momentum(0.9).weight_decay(0.1).into(), family);
    }
}

#[test]
fn bits_that_arithmetic_changes_stay() {
    let mut trainer = trainer(Adam::new(0.01).amsgrad(true).into(), going_on().fuse_updates(true));
    plant(&mut trainer, &ODD_BITS);
    let before = snapshot(&trainer);
    batches().iter().for_each(|batch| trainer.step(batch).unwrap());
    assert_frozen("odd bits", &trainer, &before);
    assert_eq!(never_written(&trainer, "fc1.kernel"), fits(&trainer));
}

#[test]
fn a_loss_that_is_not_finite_updates_nothing() {
    let options = TrainerOptions::batch(ROWS).on_non_finite(OnNonFinite::Stop).fuse_updates(true);
    let mut trainer = trainer(Sgd::new(0.05).momentum(0.9).into(), options);
    let batch = &batches()[0];
    trainer.step(batch).unwrap();
    let before = snapshot(&trainer);
    let bias = trainer.model().parameters().iter().position(|p| p.path == "fc2.bias").unwrap();
    trainer.store().write_weights(ParameterId::of(bias), &[f32::NAN.to_bits(); 5]).unwrap();
    trainer.step(batch).unwrap();
    assert!(matches!(trainer.metrics(), Err(Error::NonFiniteLoss { .. })));
    let mut after = snapshot(&trainer);
    after.0[bias][0].clone_from(&before.0[bias][0]);
    assert!(before == after);
}

#[test]
fn what_stands_between_keeps_gradients_in_memory() {
    let momentum = || Optimizer::from(Sgd::new(0.05).momentum(0.9));
    let fuse = || going_on().fuse_updates(true);
    let cases = [
        ("clipped", momentum().clip(Clip::norm(0.5)), fuse()),
        ("accumulated", momentum(), fuse().accumulate(true)),
        ("kept", momentum(), fuse().keep_gradients(true)),
    ];
    for (name, optimizer, options) in cases {
        let (fused, _) = trained(optimizer.clone(), options.clone());
        let (apart, _) = trained(optimizer, options.fuse_updates(false));
        assert_eq!(fused.report().dispatches, apart.report().dispatches, "{name}");
        assert!(!never_written(&fused, "fc1.kernel"), "{name}");
    }
}

/// A bias's gradient is summed beside its kernel's, which waits for the last that reads the weights; but not so long that an
/// update of the bias alone would read what is not there yet. Nor does a product end with an update of the arena that it reads.
#[test]
fn updates_in_an_order_of_their_own() {
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let product = |transpose_a, transpose_b| Op::MatMul { transpose_a, transpose_b };
    let mut graph = Graph::new(8).unwrap();
    let shape = |extents: &[usize]| frazil::shape::Shape::new(extents.to_vec()).unwrap();
    let x = graph.batch_input("x", &[8], DType::F32).unwrap();
    let dy = graph.batch_input("dy", &[8], DType::F32).unwrap();
    let fixed = graph.input("fixed", shape(&[8, 8]), DType::F32);
    let w = graph.parameter("w", shape(&[8, 8])).unwrap();
    graph.parameter("b", shape(&[8])).unwrap();
    let v = graph.parameter("v", shape(&[8, 8])).unwrap();
    graph.parameter("u", shape(&[8, 8])).unwrap();
    let db = graph.push_one(Op::BiasGrad, &[dy], "db").unwrap();
    let dw = graph.push_one(product(true, false), &[x, dy], "dw").unwrap();
    graph.push(Op::Update(rule, vec![ParameterId::of(1).into()]), &[db], "update b").unwrap();
    let dx = graph.push_one(product(false, true), &[dy, w], "dx").unwrap();
    graph.mark_output(dx).unwrap();
    graph.push(Op::Update(rule, vec![ParameterId::of(0).into()]), &[dw], "update w").unwrap();
    let du = graph.push_one(product(true, false), &[v, fixed], "du").unwrap();
    graph.push(Op::Update(rule, vec![ParameterId::of(3).into()]), &[du], "update u").unwrap();
    let run = |fuse: bool| {
        let plan = Plan::compile(gpu(), &graph, &PlanOptions::default().fuse_updates(fuse)).unwrap();
        let numbers = |seed: usize, count: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 37 + seed) % 101) as f32 / 50.0 - 1.0).collect()
        };
        for (value, seed) in [(x, 1), (dy, 2), (fixed, 7)] {
            plan.write_f32(value, &numbers(seed, 64)).unwrap();
        }
        for (index, count) in [(0, 64), (1, 8), (2, 64), (3, 64)] {
            let bits: Vec<_> = numbers(index + 3, count).iter().map(|x| x.to_bits()).collect();
            plan.store().write_weights(ParameterId::of(index), &bits).unwrap();
        }
        plan.run(StepScalars { learning_rate: 0.1, ..StepScalars::forward(8) }).unwrap();
        let weights = (0..4).map(|i| plan.store().read_weights(ParameterId::of(i)).unwrap());
        let unwritten = plan.store().read_gradient(ParameterId::of(0)).unwrap().iter().all(|&bits| bits == 0);
        (weights.collect::<Vec<_>>(), unwritten)
    };
    let (apart, fused) = (run(false), run(true));
    assert_eq!((apart.1, fused.1), (false, true), "the product of w ends with its update");
    assert_eq!(apart.0, fused.0);
}
