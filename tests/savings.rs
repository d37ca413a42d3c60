//! What frozen elements save, and that saving it changes nothing else.

use crate::support::device::gpu;
use crate::support::training::{Snapshot, assert_frozen, moved, snapshot};
use frazil::trainer::{GradientPolicy, ThawPolicy};
use frazil::{
    Adam, Batch, Clip, FreezeRule, Loss, Mask, Model, Optimizer, Padding, Sgd, Trainer, TrainerOptions,
};

const ROWS: usize = 8;

/// Large enough that every way to compute a part of a weight gradient is worth its dispatches somewhere.
fn model() -> Model {
    Model::input([16, 16, 8])
        .conv2d("conv1", 16, [3, 3], |c| c.padding(Padding::Same))
        .relu()
        .conv2d("conv2", 64, [3, 3], |c| c.padding(Padding::Same).stride([2, 2]))
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

fn batches(count: usize) -> Vec<Batch> {
    let data = frazil::data::synthetic("synthetic", [16, 16, 8], 4, 40, 11).unwrap();
    // The last is short.
    let mut all: Vec<_> = data.batches(ROWS, 5).unwrap().collect();
    let last = all.last_mut().unwrap();
    last.labels.truncate(3);
    last.features.truncate(3 * 16 * 16 * 8);
    all.iter().cycle().take(count).cloned().collect()
}

fn train(trainer: &mut Trainer, steps: usize) {
    batches(steps).iter().for_each(|batch| trainer.step(batch).unwrap());
}

/// Operations of a step, each once.
fn operations(trainer: &Trainer) -> Vec<String> {
    let mut labels: Vec<_> = trainer.report().dispatches.iter().map(|d| d.label.clone()).collect();
    labels.dedup();
    labels
}

/// The kernels of an operation, without what adds up a sum that some families cut into slices.
fn kernels(trainer: &Trainer, operation: &str) -> Vec<&'static str> {
    let dispatches = trainer.report().dispatches.iter();
    let of_operation = dispatches.filter(|d| d.label == operation).map(|d| d.kernel);
    of_operation.filter(|&kernel| kernel != "split_k_sum").collect()
}

/// F17: frozen weights save the work that only they would need: their gradient, their update, and all that only leads there.
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

    // A whole tensor: its gradient is gone, and what leads below it is not.
    t.freeze("conv2.kernel", FreezeRule::all()).unwrap();
    assert!(!has(&t, "conv2 grad_kernel") && has(&t, "conv2 grad_input") && has(&t, "conv1 grad_kernel"));
    // All below: nothing goes back beyond the head, which still trains.
    t.freeze("conv*", FreezeRule::all()).unwrap();
    for gone in ["conv1 grad_kernel", "conv2 grad_input", "fc grad_input"] {
        assert!(!has(&t, gone), "{gone} is left");
    }
    assert!(has(&t, "fc grad_kernel") && has(&t, "update"));
    assert_eq!(t.report().flops() + t.report().flops_avoided(), flops, "{}", t.report());
    let before = snapshot(&t);
    train(&mut t, 3);
    assert_frozen("head alone", &t, &before);
    assert_eq!(t.gradient("conv1.kernel").unwrap(), vec![0.0; 9 * 8 * 16]);
    assert!(moved(&t, &before).0 > 0);
    // Everything: forward and loss are left.
    t.freeze("*", FreezeRule::all()).unwrap();
    assert!(!has(&t, "update") && !has(&t, "fc grad_kernel"), "{:?}", operations(&t));
    // And back again.
    t.thaw("*", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
    assert_eq!(operations(&t), all);
    let before = snapshot(&t);
    train(&mut t, 1);
    let (moved, trainable) = moved(&t, &before);
    assert!(moved > trainable / 2, "{moved} of {trainable} moved");
}

/// Each shape of a mask, and the kernels that it leads to.
fn shapes() -> Vec<(&'static str, Mask, Vec<&'static str>)> {
    let elements = 9 * 16 * 64;
    let of = |f: &dyn Fn(usize) -> bool| Mask::from_trainable((0..elements).map(f));
    let gemm = kernels(&trainer(Sgd::new(0.05), options()), "conv2 grad_kernel");
    let parts = vec!["gather_patches", gemm[0], "scatter_splits"];
    vec![
        ("columns", of(&|i| i % 64 >= 60), parts.clone()),
        ("rows", of(&|i| i / 64 < 20), parts),
        ("elements", of(&|i| i % 997 == 5), vec!["kernel_grad_elements", "scatter_splits"]),
        ("scattered", of(&|i| (i as u32).wrapping_mul(2_654_435_761) >> 16 & 1 == 0), gemm),
    ]
}

/// The same steps with all gradients computed and with the needed ones alone: frozen bits stay, and what trains gets the same
/// gradient, up to the order of its sum.
#[test]
fn what_trains_gets_the_gradient_that_it_would_get() {
    for (name, mask, expected) in shapes() {
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
            (kernels(&t, "conv2 grad_kernel"), gradient, snapshot(&t))
        };
        let (used, partial, bits) = run(options());
        assert_eq!(used, expected, "{name}");
        let again = run(options());
        assert!(again.2 == bits && again.1 == partial, "{name}: two runs differ");
        let (_, dense, _) = run(options().gradient_policy(GradientPolicy::Dense));
        let largest = dense.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        for i in (0..mask.len()).filter(|&i| !mask.is_frozen(i)) {
            // Five steps of Adam apart: weights that moved a little differently.
            assert!(
                (partial[i] - dense[i]).abs() <= 1e-3 * largest,
                "{name}: {} for {}",
                partial[i],
                dense[i]
            );
        }
        assert!(mask.frozen_indices().all(|i| partial[i] == 0.0), "{name}");
    }
}

/// A wrong gradient of one trainable element would be seen by the comparison above: it is far larger than what it allows.
#[test]
fn gradients_that_are_compared_are_not_all_small() {
    let mut t = trainer(Adam::new(0.01), options());
    train(&mut t, 2);
    let gradient = t.gradient("conv2.kernel").unwrap();
    let largest = gradient.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let seen = gradient.iter().filter(|x| x.abs() > 1e-2 * largest).count();
    assert!(seen > gradient.len() / 2, "{seen} of {}", gradient.len());
}

/// Running sums go on through a change of the plan, and so does a step over several batches.
#[test]
fn metrics_go_on_when_the_plan_changes() {
    let mut t = trainer(Sgd::new(0.05), options().accumulate(true));
    let [a, b, ..] = &batches(2)[..] else { unreachable!() };
    t.step(a).unwrap();
    t.freeze("conv*", FreezeRule::all()).unwrap();
    t.step_over(&[a.clone(), b.clone()]).unwrap();
    t.thaw("conv2.kernel", FreezeRule::all(), ThawPolicy::ZeroState).unwrap();
    t.step(b).unwrap();
    assert_eq!(t.metrics().unwrap().examples as usize, 2 * (a.labels.len() + b.labels.len()));
}

/// A norm over all elements counts frozen ones, so that nothing may be left out.
#[test]
fn a_clip_over_all_saves_nothing() {
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

/// A mask that comes with a file leads to the plan that it led to before: 2n steps are n, saved, loaded and n.
#[test]
fn a_resumed_run_saves_the_same_work() {
    let file = std::env::temp_dir().join(format!("frazil-savings-{}.safetensors", std::process::id()));
    for (name, mask, expected) in shapes() {
        let start = || trainer(Adam::new(0.01), options());
        let finish = |t: &mut Trainer| -> Snapshot {
            batches(4).iter().skip(2).for_each(|batch| t.step(batch).unwrap());
            snapshot(t)
        };
        let mut whole = start();
        whole.replace_mask("conv2.kernel", mask.clone(), ThawPolicy::KeepState).unwrap();
        train(&mut whole, 2);
        whole.save(&file).unwrap();
        let mut resumed = start();
        resumed.load(&file).unwrap();
        assert_eq!(kernels(&resumed, "conv2 grad_kernel"), expected, "{name}");
        assert!(finish(&mut whole) == finish(&mut resumed), "{name}: bits differ");
    }
    std::fs::remove_file(&file).unwrap();
}
