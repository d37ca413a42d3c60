//! Tests the steps that Adam's bias correction counts for elements that were frozen during some of them.

use crate::support::device::gpu;
use crate::support::random::stream;
use crate::support::training::*;
use frazil::checkpoint::{Checkpoint, Tensor};
use frazil::low_level::{DType, Graph, Op, ParameterId, Plan, PlanOptions, Shape, StepScalars, UpdateRule};
use frazil::trainer::{GradientPolicy, RewindState};
use frazil::{
    Adam, AdamW, Batch, BiasCorrection, Error, FreezeRule, Gpu, GpuOptions, Loss, Mask, Model, Optimizer,
    Sgd, ThawPolicy, Trainer, TrainerOptions,
};
use std::path::PathBuf;

const RATE: f64 = 1e-4;

/// Creates a trainer of a linear model of one input. With the target of [`constant`], its gradients are
/// nearly constant, so that an unfrozen element moves by one learning rate in each step of Adam.
fn linear(optimizer: impl Into<Optimizer>, options: TrainerOptions) -> Trainer {
    let model = Model::input([1]).dense("fc", 1).build().unwrap();
    Trainer::new(gpu(), model, Loss::MeanSquaredError, optimizer, options.progress_every(0)).unwrap()
}

fn constant() -> Batch {
    Batch { features: vec![1.0], labels: vec![0], targets: vec![1000.0] }
}

/// Returns the distance that the bias moves in each of the next `steps` steps, in learning rates.
fn moves(t: &mut Trainer, steps: usize, mut step: impl FnMut(&mut Trainer)) -> Vec<f64> {
    let mut last = t.parameter("fc.bias").unwrap()[0];
    let mut of_step = || {
        step(t);
        let now = t.parameter("fc.bias").unwrap()[0];
        f64::from(now - std::mem::replace(&mut last, now)) / RATE
    };
    (0..steps).map(|_| of_step()).collect()
}

fn range(moves: &[f64]) -> [f64; 2] {
    [moves.iter().copied().fold(f64::INFINITY, f64::min), moves.iter().copied().fold(0.0, f64::max)]
}

/// Freezes the bias from the start, thaws it after `n` steps, and returns the range of its next 50 moves.
fn thawed_after(n: usize, adam: Adam, policy: ThawPolicy) -> [f64; 2] {
    let mut t = linear(adam, TrainerOptions::batch(1));
    t.freeze("fc.bias", FreezeRule::all()).unwrap();
    for _ in 0..n {
        t.step(&constant()).unwrap();
    }
    t.thaw("fc.bias", FreezeRule::all(), policy).unwrap();
    range(&moves(&mut t, 50, |t| t.step(&constant()).unwrap()))
}

/// An element that was frozen from the start and is thawed late moves as far in each step as one that was
/// never frozen. With a bias correction that counts the trainer's steps, it moves several learning rates.
#[test]
fn thawed_element_does_not_overshoot() {
    let near_one = |[least, most]: [f64; 2]| least > 0.999 && most < 1.001;
    println!("learning rates that a thawed element moves in a step, of the first 50 steps:");
    for (n, overshoot) in [(10, 0.45..1.2), (1000, 2.4..5.5), (3000, 3.0..6.6)] {
        let trainer_steps = Adam::new(RATE).bias_correction(BiasCorrection::TrainerSteps);
        let [least, most] = thawed_after(n, trainer_steps, ThawPolicy::KeepState);
        let now = thawed_after(n, Adam::new(RATE), ThawPolicy::KeepState);
        println!("  after {n:>4} steps: trainer-steps {least:.2} to {most:.2}, element-steps {now:.3?}");
        assert!(overshoot.contains(&least) && overshoot.contains(&most), "{n}: {least} to {most}");
        assert!(near_one(now), "{n}: {now:?}");
    }
    for adam in [Adam::new(RATE), Adam::new(RATE).amsgrad(true)] {
        for policy in [ThawPolicy::KeepState, ThawPolicy::ZeroState] {
            let moves = thawed_after(300, adam, policy);
            assert!(near_one(moves), "{adam:?} {policy:?}: {moves:?}");
        }
    }
}

/// One Adam element in f64, with the steps in which it was trained.
#[derive(Clone, Default)]
struct Element {
    w: f64,
    m: f64,
    v: f64,
    v_max: f64,
    trained: i32,
}

impl Element {
    fn update(&mut self, gradient: f64, rule: &UpdateRule, rate: f64) {
        let UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled, amsgrad } = *rule else {
            panic!("expected Adam, got {rule:?}");
        };
        let mut g = gradient;
        if decoupled {
            self.w -= rate * weight_decay * self.w;
        } else {
            g += weight_decay * self.w;
        }
        self.trained += 1;
        self.m = beta1 * self.m + (1.0 - beta1) * g;
        self.v = beta2 * self.v + (1.0 - beta2) * g * g;
        self.v_max = if amsgrad { self.v_max.max(self.v) } else { self.v };
        let [first, second] = [beta1, beta2].map(|beta| 1.0 - beta.powi(self.trained));
        self.w -= rate * (self.m / first) / ((self.v_max / second).sqrt() + epsilon);
    }
}

/// Trains with masks that change every three steps, under both policies, and compares each trainable weight
/// with an f64 update from the same gradients.
#[test]
fn changing_masks_match_an_f64_reference() {
    let rate = 0.01;
    let optimizers: [(&str, Optimizer); 4] = [
        ("adam", Adam::new(rate).into()),
        ("adam with decay", Adam::new(rate).weight_decay(0.1).into()),
        ("adamw", AdamW::new(rate).weight_decay(0.1).into()),
        ("amsgrad", Adam::new(rate).amsgrad(true).betas(0.8, 0.99).into()),
    ];
    let all = batches(90);
    for (name, optimizer) in optimizers {
        let rule = *optimizer.rule();
        let mut t = trainer(optimizer, TrainerOptions::batch(ROWS).seed(3).keep_gradients(true));
        let paths: Vec<_> = t.model().parameters().iter().map(|p| p.path.clone()).collect();
        let element = |w: &f32| Element { w: f64::from(*w), ..Element::default() };
        let mut elements: Vec<Vec<Element>> =
            paths.iter().map(|path| t.parameter(path).unwrap().iter().map(element).collect()).collect();
        let mut worst = 0.0f64;
        for (number, batch) in all.iter().enumerate() {
            if number % 3 == 0 {
                let policy = if number % 2 == 0 { ThawPolicy::KeepState } else { ThawPolicy::ZeroState };
                let mut random = stream(number as u64);
                for (path, elements) in paths.iter().zip(&mut elements) {
                    // Some elements are frozen from the start and thawed late.
                    let frozen = |i: usize| (i.is_multiple_of(7) && number < 60) || random.below(3) == 0;
                    let mask = Mask::from_frozen((0..elements.len()).map(frozen).collect::<Vec<_>>());
                    if policy == ThawPolicy::ZeroState {
                        for i in t.mask(path).unwrap().difference(&mask).unwrap().frozen_indices() {
                            elements[i] = Element { w: elements[i].w, ..Element::default() };
                        }
                    }
                    t.replace_mask(path, mask, policy).unwrap();
                }
            }
            t.step(batch).unwrap();
            for (path, elements) in paths.iter().zip(&mut elements) {
                let (gradient, now) = (t.gradient(path).unwrap(), t.parameter(path).unwrap());
                let mask = t.mask(path).unwrap();
                for (i, element) in elements.iter_mut().enumerate() {
                    if !mask.is_frozen(i) {
                        element.update(f64::from(gradient[i]), &rule, rate);
                    }
                    // In units of the rounding error of a weight and of a learning rate, per step.
                    let unit = (element.w.abs() + rate) * f64::from(f32::EPSILON);
                    worst = worst.max((f64::from(now[i]) - element.w).abs() / unit / (number + 1) as f64);
                }
            }
        }
        println!("{name}: largest error of a weight {worst:.2} roundings per step");
        assert!(worst < 8.0, "{name}: {worst}");
        assert_eq!(t.verify_frozen().unwrap().changed(), 0);
    }
}

/// Temporary file of one test, removed on drop.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        File(std::env::temp_dir().join(format!("frazil-thaw-{}-{name}", std::process::id())))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Trains with a half of all elements frozen, all of `conv.bias` among them, thaws some, and trains on.
fn partly_thawed(optimizer: impl Into<Optimizer>, options: TrainerOptions) -> Trainer {
    let mut t = trainer(optimizer.into(), options);
    t.freeze("*", FreezeRule::random(0.5).seed(4)).unwrap();
    t.freeze("conv.bias", FreezeRule::all()).unwrap();
    train(&mut t, 7);
    t.thaw("fc.kernel", FreezeRule::random(0.4).seed(5), ThawPolicy::KeepState).unwrap();
    t.thaw("conv.kernel", FreezeRule::random(0.4).seed(6), ThawPolicy::ZeroState).unwrap();
    train(&mut t, 5);
    t
}

#[test]
fn resumed_run_continues_the_counts_bit_for_bit() {
    let [middle, ends] = [File::new("middle"), File::new("ends")];
    for optimizer in
        [Adam::new(0.01).into(), AdamW::new(0.01).into(), Optimizer::from(Adam::new(0.01).amsgrad(true))]
    {
        let options = || TrainerOptions::batch(ROWS).seed(3);
        let mut uninterrupted = partly_thawed(optimizer.clone(), options());
        uninterrupted.save(&middle.0).unwrap();
        let file = Checkpoint::read(&middle.0).unwrap();
        assert_eq!(file.training_digest(), Some(uninterrupted.digest().unwrap()));
        let steps = |path: &str| file.tensor(&format!("steps.{path}")).unwrap();
        // A tensor that was always frozen takes one number.
        assert_eq!((steps("conv.bias").shape(), steps("conv.bias").bits()), (&[1][..], &[0][..]));
        assert_eq!(steps("fc.kernel").shape(), [125, 4]);
        let mut resumed = trainer(optimizer, options());
        resumed.load(&middle.0).unwrap();
        for t in [&mut uninterrupted, &mut resumed] {
            train(t, 3);
            // Elements that were frozen before and after the checkpoint.
            t.thaw("*", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
            train(t, 9);
        }
        assert!(snapshot(&resumed) == snapshot(&uninterrupted));
        assert_eq!(resumed.digest().unwrap(), uninterrupted.digest().unwrap());
        let bytes = |t: &Trainer| {
            t.save(&ends.0).unwrap();
            std::fs::read(&ends.0).unwrap()
        };
        assert!(bytes(&resumed) == bytes(&uninterrupted), "checkpoints at the end");
    }
}

/// A checkpoint of the version before steps were counted for each element loads under either count.
/// Elements that are frozen and without state then count from 0.
#[test]
fn checkpoint_without_counts_loads() {
    let file = File::new("old");
    let saved = |counts| {
        let mut t = linear(Adam::new(RATE).bias_correction(counts), TrainerOptions::batch(1));
        t.freeze("fc.bias", FreezeRule::all()).unwrap();
        for _ in 0..1000 {
            t.step(&constant()).unwrap();
        }
        t.save(&file.0).unwrap();
        Checkpoint::read(&file.0).unwrap()
    };
    let recent = saved(BiasCorrection::ElementSteps);
    let old = || {
        let mut old = Checkpoint::default();
        recent.notes().iter().filter(|(n, _)| *n != "bias_correction").for_each(|(n, v)| old.note(n, v));
        let kept = recent.tensors().iter().filter(|(name, _)| !name.starts_with("steps."));
        kept.for_each(|(name, tensor)| old.push(name.clone(), tensor.clone()));
        old
    };
    assert_eq!(recent.tensors().len(), old().tensors().len() + 1);
    old().write(&file.0).unwrap();
    for (counts, expected) in
        [(BiasCorrection::ElementSteps, 0.999..1.001), (BiasCorrection::TrainerSteps, 2.4..2.7)]
    {
        let mut t = linear(Adam::new(RATE).bias_correction(counts), TrainerOptions::batch(1));
        t.load(&file.0).unwrap();
        t.thaw("fc.bias", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
        let first = moves(&mut t, 1, |t| t.step(&constant()).unwrap())[0];
        assert!(expected.contains(&first), "{counts}: {first}");
    }
    // A file with the other count, or with numbers for another count of elements, is refused.
    let refused = |counts, part: &str| {
        let mut t = linear(Adam::new(RATE).bias_correction(counts), TrainerOptions::batch(1));
        let error = t.load(&file.0).unwrap_err();
        assert!(matches!(&error, Error::Checkpoint { why, .. } if why.contains(part)), "{error}");
        assert_eq!((t.steps(), t.frozen_count()), (0, 0));
    };
    recent.write(&file.0).unwrap();
    refused(
        BiasCorrection::TrainerSteps,
        "bias_correction: expected \"trainer-steps\", got \"element-steps\"",
    );
    let mut wrong = old();
    wrong.note("bias_correction", "element-steps");
    wrong.push("steps.fc.bias".into(), Tensor::u32(vec![2], vec![0, 0]));
    wrong.write(&file.0).unwrap();
    refused(BiasCorrection::ElementSteps, "\"steps.fc.bias\": expected u32 [1], got u32 [2]");
}

/// Where no element was trained again after steps that it missed, the plan has the same buffers, dispatches
/// and shaders as with a bias correction that counts all steps.
#[test]
fn missed_steps_take_no_memory_and_no_time_until_the_first_thaw() {
    let gpu = Gpu::new(GpuOptions::default().compile_ahead(false).memory_budget(1 << 30)).unwrap();
    let new = |optimizer: Optimizer| {
        Trainer::new(&gpu, model(), Loss::SoftmaxCrossEntropy, optimizer, TrainerOptions::batch(ROWS))
            .unwrap()
    };
    let freeze = |t: &mut Trainer| {
        train(t, 2);
        t.freeze("conv.*", FreezeRule::all()).unwrap();
        train(t, 2);
        // Thawed before it missed a step.
        t.freeze("fc.*", FreezeRule::random(0.5)).unwrap();
        t.thaw("fc.*", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
        train(t, 2);
    };
    let trainer_steps = Adam::new(0.01).bias_correction(BiasCorrection::TrainerSteps);
    let thaw = |t: &mut Trainer| t.thaw("conv.kernel", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
    let (report, thawed) = {
        let mut t = new(trainer_steps.into());
        freeze(&mut t);
        let report = t.report().clone();
        thaw(&mut t);
        (report, t.report().clone())
    };
    let mut t = new(Adam::new(0.01).into());
    freeze(&mut t);
    assert_eq!(*t.report(), report);
    assert_eq!(report.bytes(), gpu.allocated_bytes());
    assert!(!t.store().has_missed_steps());
    let file = File::new("no-cost");
    t.save(&file.0).unwrap();
    let saved = Checkpoint::read(&file.0).unwrap();
    let steps =
        |file: &Checkpoint| file.tensors().iter().filter(|(name, _)| name.starts_with("steps.")).count();
    assert_eq!(steps(&saved), 2, "those of the frozen tensors");

    // The first thaw of elements that missed steps adds one arena, which the update reads, and nothing else.
    thaw(&mut t);
    let arena = report.persistent.iter().find(|buffer| buffer.name == "weights").unwrap().bytes;
    // The bias of the convolution, 64 elements with its padding, stays frozen.
    let updated = arena - 256;
    let mut without = t.report().clone();
    for (dispatch, before) in without.dispatches.iter_mut().zip(&thawed.dispatches) {
        let expected =
            if dispatch.kernel == "adam_update" { before.bytes_read + updated } else { before.bytes_read };
        assert_eq!(dispatch.bytes_read, expected, "{}", dispatch.label);
        dispatch.bytes_read = before.bytes_read;
    }
    without.persistent.retain(|buffer| buffer.name != "missed steps");
    assert_eq!(without, thawed);
    assert_eq!(t.report().bytes(), thawed.bytes() + arena);
    assert_eq!(t.report().bytes(), gpu.allocated_bytes());
    drop(t);

    // No rule but Adam has a bias correction.
    for optimizer in [Sgd::new(0.01).momentum(0.9).into(), trainer_steps.into()] {
        let mut t = new(optimizer);
        freeze(&mut t);
        t.thaw("conv.*", FreezeRule::all(), ThawPolicy::ZeroState).unwrap();
        train(&mut t, 1);
        assert!(!t.store().has_missed_steps(), "{:?}", t.optimizer());
        t.save(&file.0).unwrap();
        assert_eq!(steps(&Checkpoint::read(&file.0).unwrap()), 0);
    }
    // Running statistics have no bias correction.
    let normalized = Model::input([5, 5, 2]).batch_norm("bn").flatten().dense("fc", 4).build().unwrap();
    let options = TrainerOptions::batch(ROWS);
    let mut t = Trainer::new(&gpu, normalized, Loss::SoftmaxCrossEntropy, Adam::new(0.01), options).unwrap();
    t.freeze_statistics("*").unwrap();
    train(&mut t, 3);
    t.thaw_statistics("*").unwrap();
    train(&mut t, 1);
    assert!(!t.store().has_missed_steps());
}

/// The shaders of plans without missed steps do not read them, and give the same bits as those of plans in
/// which no element missed a step.
#[test]
fn update_without_missed_steps_has_the_bits_of_one_that_missed_none() {
    for amsgrad in [false, true] {
        let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
        let rule = UpdateRule::Adam { beta1, beta2, epsilon, weight_decay: 0.01, decoupled: false, amsgrad };
        let mut graph = Graph::new(1).unwrap();
        let shape = Shape::new([999]).unwrap();
        let w = graph.parameter("w", shape.clone()).unwrap();
        let g = graph.input("g", shape, DType::F32);
        let id = ParameterId::of(0);
        graph.push(Op::Update(rule, vec![id.into()]), &[g], "update").unwrap();
        let run = |options: &PlanOptions| {
            let launches = Plan::launches(&graph, gpu().report(), options).unwrap();
            let reads = launches[0].shader().wgsl.contains("missed_steps");
            let plan = Plan::compile(gpu(), &graph, options).unwrap();
            let mut random = stream(8);
            let mut values = |count| (0..count).map(|_| random.normal()).collect::<Vec<f32>>();
            plan.write_f32(w, &values(999)).unwrap();
            for step in 0..20u32 {
                plan.write_f32(g, &values(999)).unwrap();
                let correction = |beta: f64| (1.0 - beta.powi(step as i32 + 1)) as f32;
                let scalars = StepScalars {
                    learning_rate: 0.01,
                    correction1: correction(beta1),
                    correction2: correction(beta2),
                    step,
                    ..StepScalars::forward(1)
                };
                plan.run(scalars).unwrap();
            }
            (reads, plan.store().read_weights(id).unwrap())
        };
        let (plain, bits) = run(&PlanOptions::default());
        let (reads, same) = run(&PlanOptions::default().missed_steps(true));
        assert_eq!((plain, reads), (false, true));
        assert!(bits == same);
        let store = frazil::low_level::Store::new(gpu(), &graph).unwrap();
        let options = PlanOptions::default().missed_steps(true);
        let error = Plan::compile_with(gpu(), &graph, &store, &options).unwrap_err().to_string();
        assert!(error.contains("with_missed_steps"), "{error}");
        let error = store.write_missed_steps(id, &[0; 999]).unwrap_err().to_string();
        assert!(error.contains("with_missed_steps"), "{error}");
    }
}

#[test]
fn rewound_elements_count_as_at_the_snapshot_or_from_zero() {
    let options = || TrainerOptions::batch(ROWS).seed(3);
    let mut t = partly_thawed(Adam::new(0.01), options());
    let (start, before) = (t.snapshot().unwrap(), t.digest().unwrap());
    train(&mut t, 4);
    let end = snapshot(&t);
    assert_ne!(t.digest().unwrap(), before);
    t.rewind(&start, RewindState::Restore).unwrap();
    assert_eq!(t.digest().unwrap(), before);
    train(&mut t, 4);
    assert!(snapshot(&t) == end);
    // A snapshot in which elements missed steps, in a trainer without missed steps.
    let mut other = trainer(Adam::new(0.01).into(), options());
    other.rewind(&start, RewindState::Restore).unwrap();
    assert!(other.store().has_missed_steps());
    assert_eq!(other.digest().unwrap(), before);

    let mut t = linear(Adam::new(RATE), TrainerOptions::batch(1));
    let start = t.snapshot().unwrap();
    t.freeze("fc.bias", FreezeRule::all()).unwrap();
    for _ in 0..200 {
        t.step(&constant()).unwrap();
    }
    t.thaw("fc.bias", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
    for _ in 0..200 {
        t.step(&constant()).unwrap();
    }
    for state in [RewindState::Keep, RewindState::Zero, RewindState::Restore] {
        t.rewind(&start, state).unwrap();
        let range = range(&moves(&mut t, 10, |t| t.step(&constant()).unwrap()));
        assert!(range[0] > 0.999 && range[1] < 1.001, "{state:?}: {range:?}");
    }
    // Frozen elements keep their count when the trainer's count starts again.
    t.freeze("fc.bias", FreezeRule::all()).unwrap();
    t.rewind(&start, RewindState::Zero).unwrap();
    t.step(&constant()).unwrap();
    t.thaw("fc.bias", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
    let range = range(&moves(&mut t, 10, |t| t.step(&constant()).unwrap()));
    assert!(range[0] > 0.999 && range[1] < 1.001, "{range:?}");
}

/// Steps that the device skipped after a non-finite loss are not counted, also if the mask changes before the
/// host knows of them.
#[test]
fn skipped_steps_are_not_counted() {
    let good = batches(1).remove(0);
    let bad = Batch { features: vec![f32::NAN; good.features.len()], ..good.clone() };
    let run = |skipped: usize| {
        let options = TrainerOptions::batch(ROWS).seed(3).progress_every(0);
        let mut t = trainer(Adam::new(0.01).into(), options);
        t.freeze("fc.kernel", FreezeRule::random(0.5)).unwrap();
        train(&mut t, 5);
        for _ in 0..skipped {
            t.step(&bad).unwrap();
        }
        t.freeze("conv.kernel", FreezeRule::random(0.5)).unwrap();
        t.thaw("fc.kernel", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
        t.forget_non_finite().unwrap();
        train(&mut t, 2);
        t.thaw("conv.kernel", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
        train(&mut t, 2);
        (t.steps(), snapshot(&t))
    };
    let (steps, bits) = run(0);
    let (same_steps, same_bits) = run(3);
    assert_eq!((steps, same_steps), (9, 9));
    assert!(bits == same_bits);
}

/// Accumulated batches count as one step, cached features and dense gradients do not change the count.
#[test]
fn count_is_that_of_updates_in_every_kind_of_step() {
    let mut t = linear(Adam::new(RATE), TrainerOptions::batch(1).accumulate(true));
    t.freeze("fc.bias", FreezeRule::all()).unwrap();
    let pair = [constant(), constant()];
    for _ in 0..100 {
        t.step_over(&pair).unwrap();
    }
    t.thaw("fc.bias", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
    let moved = range(&moves(&mut t, 20, |t| t.step_over(&pair).unwrap()));
    assert!(moved[0] > 0.999 && moved[1] < 1.001, "accumulated: {moved:?}");

    let mut t = linear(Adam::new(RATE), TrainerOptions::batch(1).gradient_policy(GradientPolicy::Dense));
    t.freeze("fc.bias", FreezeRule::all()).unwrap();
    for _ in 0..100 {
        t.step(&constant()).unwrap();
    }
    t.thaw("fc.bias", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
    let moved = range(&moves(&mut t, 20, |t| t.step(&constant()).unwrap()));
    assert!(moved[0] > 0.999 && moved[1] < 1.001, "dense gradients: {moved:?}");

    let run = |cached: bool| {
        let mut t = trainer(Adam::new(0.01).into(), TrainerOptions::batch(ROWS).seed(3));
        t.freeze("conv.*", FreezeRule::all()).unwrap();
        t.freeze("fc.kernel", FreezeRule::random(0.5)).unwrap();
        let features = t.prefix_features(&data()).unwrap();
        let [examples, features] =
            [data(), features].map(|set| set.batches(ROWS, 5).unwrap().collect::<Vec<_>>());
        let steps = |t: &mut Trainer| {
            for (example, feature) in examples.iter().zip(&features) {
                if cached { t.step_above(feature).unwrap() } else { t.step(example).unwrap() }
            }
        };
        steps(&mut t);
        t.thaw("fc.kernel", FreezeRule::random(0.3), ThawPolicy::KeepState).unwrap();
        steps(&mut t);
        assert!(t.store().has_missed_steps());
        snapshot(&t)
    };
    assert!(run(true) == run(false), "cached features");
}
