//! Tests that frozen elements save work (dispatches and FLOPs), and that the savings do not change results.

use crate::support::device::gpu;
use crate::support::training::{Snapshot, assert_frozen, moved, snapshot};
use frazil::gpu::{AdapterReport, Backend, DeviceKind};
use frazil::low_level::{Plan, PlanOptions, PlanReport, UpdateRule};
use frazil::trainer::{GradientPolicy, ThawPolicy};
use frazil::{
    Adam, Batch, Clip, FreezeRule, Loss, Mask, Model, Optimizer, Padding, Sgd, Trainer, TrainerOptions,
};

const ROWS: usize = 8;

const SGD: UpdateRule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

/// Sizes of the model: side of the images, output channels of the two convolutions.
#[derive(Clone, Copy)]
struct Sizes {
    side: usize,
    conv1: usize,
    conv2: usize,
}

/// Returns sizes that are large enough for every gradient strategy on a class of adapters: for some mask, each
/// is predicted to be faster than the dense gradient in spite of its additional dispatches, which take as long
/// as many more multiply-adds on a GPU.
fn sizes_on(report: &AdapterReport) -> Sizes {
    if report.software {
        Sizes { side: 16, conv1: 16, conv2: 64 }
    } else {
        Sizes { side: 32, conv1: 64, conv2: 256 }
    }
}

fn sizes() -> Sizes {
    sizes_on(gpu().report())
}

fn model() -> Model {
    model_of(sizes())
}

fn model_of(sizes: Sizes) -> Model {
    Model::input([sizes.side, sizes.side, 8])
        .conv2d("conv1", sizes.conv1, [3, 3], |c| c.padding(Padding::Same))
        .relu()
        .conv2d("conv2", sizes.conv2, [3, 3], |c| c.padding(Padding::Same).stride([2, 2]))
        .relu()
        .flatten()
        .dense("fc", 4)
        .build()
        .unwrap()
}

fn trainer(optimizer: impl Into<Optimizer>, options: TrainerOptions) -> Trainer {
    Trainer::new(gpu(), model(), Loss::SoftmaxCrossEntropy, optimizer, options).unwrap()
}

fn options() -> TrainerOptions {
    TrainerOptions::batch(ROWS).seed(3).keep_gradients(true)
}

/// Returns the first `count` batches of seeded data, repeated epoch after epoch. The last batch of each epoch
/// has 3 examples.
fn batches(count: usize) -> Vec<Batch> {
    let shape = [sizes().side, sizes().side, 8];
    let data = frazil::data::synthetic("synthetic", shape, 4, 40, 11).unwrap();
    let mut all: Vec<_> = data.batches(ROWS, 5).unwrap().collect();
    let last = all.last_mut().unwrap();
    last.labels.truncate(3);
    last.features.truncate(3 * shape.iter().product::<usize>());
    all.iter().cycle().take(count).cloned().collect()
}

fn train(trainer: &mut Trainer, steps: usize) {
    batches(steps).iter().for_each(|batch| trainer.step(batch).unwrap());
}

/// Returns the labels of the operations in a training step, such as `conv1 grad_kernel`, each once.
fn operations(trainer: &Trainer) -> Vec<String> {
    let mut labels: Vec<_> = trainer.report().dispatches.iter().map(|d| d.label.clone()).collect();
    labels.dedup();
    labels
}

/// Returns the kernels that an operation dispatches, with the name `gemm` for all kernels of GEMMs, which
/// differ between families, and without the reduction of split-K, which only some families use.
fn kernels(report: &PlanReport, operation: &str) -> Vec<&'static str> {
    let of_operation = report.dispatches.iter().filter(|d| d.label == operation).map(|d| d.kernel);
    let all = of_operation.filter(|kernel| !kernel.starts_with("split_k_sum"));
    all.map(|kernel| if kernel.starts_with("gemm_") { "gemm" } else { kernel }).collect()
}

/// Regression test F17 (docs/masks.md): frozen weights save no time. A training step must omit the gradient
/// and the update of frozen weights, and every operation whose result only these read.
#[test]
fn f17_frozen_weights_save_work() {
    let mut t = trainer(Sgd::new(0.05).momentum(0.9), options());
    let (all, flops) = (operations(&t), t.report().flops());
    let has = |t: &Trainer, operation: &str| operations(t).iter().any(|o| o == operation);
    for operation in ["conv1 grad_kernel", "conv2 grad_kernel", "conv2 grad_input", "fc grad_input", "update"]
    {
        assert!(all.iter().any(|o| o == operation), "{operation} is not in {all:?}");
    }
    assert_eq!(t.report().flops_avoided(), 0);

    // One tensor frozen: its weight gradient is not computed, but the gradients of the layers before it are.
    t.freeze("conv2.kernel", FreezeRule::all()).unwrap();
    assert!(!has(&t, "conv2 grad_kernel") && has(&t, "conv2 grad_input") && has(&t, "conv1 grad_kernel"));
    // All convolutions frozen: the backward pass ends at the dense layer, whose weights are still trained.
    t.freeze("conv*", FreezeRule::all()).unwrap();
    for gone in ["conv1 grad_kernel", "conv2 grad_input", "fc grad_input"] {
        assert!(!has(&t, gone), "{gone} is still computed");
    }
    assert!(has(&t, "fc grad_kernel") && has(&t, "update"));
    assert_eq!(t.report().flops() + t.report().flops_avoided(), flops, "{}", t.report());
    let before = snapshot(&t);
    train(&mut t, 3);
    assert_frozen("dense layer alone", &t, &before);
    assert_eq!(t.gradient("conv1.kernel").unwrap(), vec![0.0; 9 * 8 * sizes().conv1]);
    assert!(moved(&t, &before).0 > 0);
    // All parameters frozen: only the forward pass and the loss remain.
    t.freeze("*", FreezeRule::all()).unwrap();
    assert!(!has(&t, "update") && !has(&t, "fc grad_kernel"), "{:?}", operations(&t));
    // All parameters thawed: all operations are present again.
    t.thaw("*", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
    assert_eq!(operations(&t), all);
    let before = snapshot(&t);
    train(&mut t, 1);
    let (moved, trainable) = moved(&t, &before);
    assert!(moved > trainable / 2, "{moved} of {trainable} changed");
}

/// Returns (name, mask of `conv2.kernel`, expected kernels of its weight gradient): one mask for each partial
/// gradient strategy, and a scattered mask, for which the dense gradient is computed.
fn masks(Sizes { conv1, conv2, .. }: Sizes) -> Vec<(&'static str, Mask, Vec<&'static str>)> {
    let of = |f: &dyn Fn(usize) -> bool| Mask::from_trainable((0..9 * conv1 * conv2).map(f));
    let parts = vec!["gather_patches", "gemm", "scatter_splits"];
    vec![
        ("columns", of(&|i| i % conv2 >= conv2 - conv2 / 16), parts.clone()),
        ("rows", of(&|i| i / conv2 < 20), parts),
        ("elements", of(&|i| i % 997 == 5), vec!["kernel_grad_elements", "scatter_splits"]),
        ("scattered", of(&|i| (i as u32).wrapping_mul(2_654_435_761) >> 16 & 1 == 0), vec!["gemm"]),
    ]
}

/// On every class of adapters, each strategy is chosen for its mask.
#[test]
fn every_class_of_adapters_uses_every_gradient_strategy() {
    for kind in [DeviceKind::Cpu, DeviceKind::Integrated, DeviceKind::Discrete] {
        let adapter = AdapterReport::new("none", Backend::Vulkan, kind);
        let sizes = sizes_on(&adapter);
        let model = model_of(sizes);
        let graph = model.training_graph(ROWS, Loss::SoftmaxCrossEntropy, SGD).unwrap().graph;
        for (name, mask, expected) in masks(sizes) {
            let mut all: Vec<_> =
                model.parameters().iter().map(|p| Mask::none(p.shape.elements()).unwrap()).collect();
            let conv2 = model.parameters().iter().position(|p| p.path == "conv2.kernel").unwrap();
            all[conv2] = mask;
            let report = Plan::estimate(&graph, &adapter, &PlanOptions::default().masks(&all)).unwrap();
            assert_eq!(kernels(&report, "conv2 grad_kernel"), expected, "{name} on {kind}");
        }
    }
}

/// Compares training with partial gradients to training with dense gradients (`GradientPolicy::Dense`).
/// Frozen elements keep their bits, and the gradients of trainable elements differ only by the order of
/// summation.
#[test]
fn partial_gradients_match_dense_ones() {
    for (name, mask, expected) in masks(sizes()) {
        let run = |options: TrainerOptions| {
            let mut t = trainer(Adam::new(0.01), options);
            train(&mut t, 2);
            t.replace_mask("conv2.kernel", mask.clone(), ThawPolicy::KeepState).unwrap();
            let before = snapshot(&t);
            for batch in batches(5).iter().rev() {
                t.step(batch).unwrap();
            }
            assert_frozen(name, &t, &before);
            assert!(moved(&t, &before).0 > 0);
            let gradient = t.gradient("conv2.kernel").unwrap();
            (kernels(t.report(), "conv2 grad_kernel"), gradient, snapshot(&t))
        };
        let (used, partial, bits) = run(options());
        assert_eq!(used, expected, "{name}");
        let again = run(options());
        assert!(again.2 == bits && again.1 == partial, "{name}: two runs differ");
        let (_, dense, _) = run(options().gradient_policy(GradientPolicy::Dense));
        let largest = dense.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        for i in (0..mask.len()).filter(|&i| !mask.is_frozen(i)) {
            let (got, want) = (partial[i], dense[i]);
            // The tolerance is wider than rounding, because after five steps of Adam the weights of the two
            // runs differ slightly.
            assert!((got - want).abs() <= 1e-3 * largest, "{name}: element {i}: expected {want}, got {got}");
        }
        assert!(mask.frozen_indices().all(|i| partial[i] == 0.0), "{name}");
    }
}

/// Most gradients are at least ten times the tolerance of `partial_gradients_match_dense_ones`, so that a
/// wrong gradient would fail that test.
#[test]
fn compared_gradients_exceed_the_tolerance() {
    let mut t = trainer(Adam::new(0.01), options());
    train(&mut t, 2);
    let gradient = t.gradient("conv2.kernel").unwrap();
    let largest = gradient.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let large = gradient.iter().filter(|x| x.abs() > 1e-2 * largest).count();
    assert!(large > gradient.len() / 2, "{large} of {}", gradient.len());
}

/// The running sums of the metrics are kept when a mask change replaces the compiled plan, also with gradient
/// accumulation.
#[test]
fn metrics_are_kept_when_the_plan_changes() {
    let mut t = trainer(Sgd::new(0.05), options().accumulate(true));
    let [a, b, ..] = &batches(2)[..] else { unreachable!() };
    t.step(a).unwrap();
    t.freeze("conv*", FreezeRule::all()).unwrap();
    t.step_over(&[a.clone(), b.clone()]).unwrap();
    t.thaw("conv2.kernel", FreezeRule::all(), ThawPolicy::ZeroState).unwrap();
    t.step(b).unwrap();
    assert_eq!(t.metrics().unwrap().examples as usize, 2 * (a.labels.len() + b.labels.len()));
}

/// Freezing removes no dispatch if the gradients of frozen elements are needed: by a gradient norm over all
/// elements (`Clip::over_all`), or with `GradientPolicy::Dense`.
#[test]
fn clipping_over_all_elements_and_dense_gradients_save_nothing() {
    let clip = Optimizer::from(Sgd::new(0.05)).clip(Clip::norm(0.1).over_all());
    let mut t = trainer(clip, options());
    let before = t.report().clone();
    t.freeze("conv*", FreezeRule::all()).unwrap();
    assert_eq!(t.report().dispatches, before.dispatches);
    let mut t = trainer(Sgd::new(0.05), options().gradient_policy(GradientPolicy::Dense));
    let before = t.report().clone();
    t.freeze("conv*", FreezeRule::all()).unwrap();
    assert_eq!(t.report().dispatches, before.dispatches, "dense gradients");
}

/// A trainer that loads its mask from a checkpoint computes the weight gradient with the same kernels, and
/// ends with the same bits, as a trainer that was not interrupted.
#[test]
fn a_resumed_run_has_the_same_plan_and_bits() {
    let file = std::env::temp_dir().join(format!("frazil-savings-{}.safetensors", std::process::id()));
    for (name, mask, expected) in masks(sizes()) {
        let start = || trainer(Adam::new(0.01), options());
        let finish = |t: &mut Trainer| -> Snapshot {
            batches(4).iter().skip(2).for_each(|batch| t.step(batch).unwrap());
            snapshot(t)
        };
        let mut uninterrupted = start();
        uninterrupted.replace_mask("conv2.kernel", mask.clone(), ThawPolicy::KeepState).unwrap();
        train(&mut uninterrupted, 2);
        uninterrupted.save(&file).unwrap();
        let mut resumed = start();
        resumed.load(&file).unwrap();
        assert_eq!(kernels(resumed.report(), "conv2 grad_kernel"), expected, "{name}");
        assert!(finish(&mut uninterrupted) == finish(&mut resumed), "{name}: bits differ");
    }
    std::fs::remove_file(&file).unwrap();
}
