//! Tests of training on features: the cached outputs of the lowest layers (the prefix), which are frozen. A
//! step on features gives the same bits as a full step, and features that no longer match the frozen weights
//! are rejected.

use crate::support::device::{families, gpu};
use crate::support::training::optimizers;
use frazil::trainer::{GradientPolicy, RewindState};
use frazil::{
    Adam, Batch, Clip, Dataset, Error, FreezeRule, Loss, Mask, Model, Optimizer, Padding, Result, Sgd,
    ThawPolicy, Trainer, TrainerOptions,
};

const ROWS: usize = 4;

/// A model of two convolutions with pooling between them, and a dense layer with dropout.
fn model() -> Model {
    Model::input([6, 4, 3])
        .conv2d("conv1", 4, [3, 3], |c| c.padding(Padding::Same))
        .relu()
        .max_pool2d([2, 2])
        .conv2d("conv2", 8, [3, 3], |c| c.padding(Padding::Same))
        .relu()
        .flatten()
        .dense("fc1", 8)
        .relu()
        .dropout(0.3)
        .dense("fc2", 3)
        .build()
        .unwrap()
}

/// Returns a data set whose last batch has two rows instead of `ROWS`.
fn data() -> Dataset {
    frazil::data::synthetic("prefix", [6, 4, 3], 3, 4 * ROWS + 2, 5).unwrap()
}

fn trainer(model: Model, optimizer: impl Into<Optimizer>, options: TrainerOptions) -> Trainer {
    Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, optimizer, options.seed(3)).unwrap()
}

fn options() -> TrainerOptions {
    TrainerOptions::batch(ROWS)
}

/// Trains two epochs with `accumulate` batches per update, on the features of the prefix if `cached`, and on
/// the examples otherwise.
fn train(t: &mut Trainer, data: &Dataset, cached: bool, accumulate: usize) -> Result<()> {
    for epoch in 0..2 {
        let batches: Vec<Batch> = data.batches_for_epoch(ROWS, 9, epoch)?.collect();
        for batches in batches.chunks(accumulate) {
            if cached { t.step_above_over(batches)? } else { t.step_over(batches)? }
        }
    }
    Ok(())
}

#[test]
fn steps_on_cached_features_equal_full_steps_to_the_bit() {
    let mut cases: Vec<_> =
        optimizers().into_iter().map(|(name, o)| (name.to_owned(), o, options(), 1)).collect();
    for family in families() {
        let name = format!("adam in {family}");
        cases.push((name, Adam::new(0.01).into(), options().family(family), 1));
    }
    let clipped = Optimizer::from(Sgd::new(0.1).momentum(0.9)).clip(Clip::norm(0.5));
    cases.push(("two batches per update".into(), clipped, options().accumulate(true), 2));
    let mut compared = 0;
    for (name, optimizer, options, accumulate) in cases {
        let [mut full, mut cached] = [(); 2].map(|()| trainer(model(), optimizer.clone(), options.clone()));
        for t in [&mut full, &mut cached] {
            t.freeze("conv*", FreezeRule::all()).unwrap();
            t.freeze("fc1.kernel", FreezeRule::random(0.5).seed(4)).unwrap();
        }
        let features = match cached.prefix_features(&data()) {
            Ok(features) => features,
            // Clipping by a norm over all elements needs the gradients of frozen layers, so such a trainer
            // has no prefix and is skipped.
            Err(Error::InvalidArgument { .. }) if cached.frozen_prefix() == 0 => continue,
            Err(error) => panic!("{name}: {error}"),
        };
        assert_eq!((features.example_shape(), features.labels()), (&[48][..], data().labels()));
        train(&mut full, &data(), false, accumulate).unwrap();
        train(&mut cached, &features, true, accumulate).unwrap();
        let frozen = cached.verify_frozen().unwrap();
        assert!(frozen.changed() == 0 && frozen.frozen() > 0, "{name}");
        assert_eq!(cached.digest().unwrap(), full.digest().unwrap(), "{name}");
        assert_eq!(cached.metrics().unwrap(), full.metrics().unwrap(), "{name}");
        assert_eq!(cached.steps(), full.steps());
        compared += 1;
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn prefix_ends_below_the_first_trainable_or_random_layer() {
    let t = |model: Model, glob: &str| {
        let mut t = trainer(model, Sgd::new(0.1), options());
        t.freeze(glob, FreezeRule::all()).unwrap();
        t
    };
    assert_eq!(trainer(model(), Sgd::new(0.1), options()).frozen_prefix(), 0);
    assert_eq!(t(model(), "conv*").frozen_prefix(), 6);
    assert_eq!(t(model(), "conv1.*").frozen_prefix(), 3);
    assert_eq!(t(model(), "conv2.*").frozen_prefix(), 0, "the lowest layer is trainable");
    assert_eq!(t(model(), "conv1.kernel").frozen_prefix(), 0, "its bias is trainable");
    assert_eq!(t(model(), "*").frozen_prefix(), 0, "nothing is trainable");
    let flat = Model::input([4, 4, 2]).flatten().dense("fc1", 4).relu().dense("fc2", 3).build().unwrap();
    assert_eq!(trainer(flat, Sgd::new(0.1), options()).frozen_prefix(), 0, "nothing is frozen");
    let begin = || Model::input([4, 4, 2]).conv2d("conv", 4, [3, 3], |c| c.padding(Padding::Same));
    let head = |builder: frazil::model::ModelBuilder| builder.flatten().dense("fc", 3).build().unwrap();
    assert_eq!(t(head(begin().relu()), "conv*").frozen_prefix(), 3);
    assert_eq!(t(head(begin().dropout(0.5)), "conv*").frozen_prefix(), 1);
    assert_eq!(t(head(begin().batch_norm("bn").relu()), "conv*").frozen_prefix(), 1);
    let join = |rate: f64| {
        head(begin().residual("join", |main| main.relu().dropout(rate), |shortcut| shortcut).relu())
    };
    assert_eq!(t(join(0.0), "conv*").frozen_prefix(), 6);
    assert_eq!(t(join(0.5), "conv*").frozen_prefix(), 1);

    let mut dense = trainer(model(), Sgd::new(0.1), options().gradient_policy(GradientPolicy::Dense));
    dense.freeze("conv*", FreezeRule::all()).unwrap();
    assert_eq!(dense.frozen_prefix(), 0, "dense gradients include those of frozen elements");
}

#[test]
fn graph_bounds_outside_of_the_model_are_errors() {
    let rule = *Optimizer::from(Sgd::new(0.1)).rule();
    let model = model();
    let from = |first: usize| model.training_graph_from(first, ROWS, Loss::SoftmaxCrossEntropy, rule);
    assert!(matches!(from(11), Err(Error::InvalidArgument { .. })), "beyond the last");
    assert!(matches!(from(10), Err(Error::InvalidArgument { .. })), "nothing to train");
    assert!(from(9).is_ok());
    for end in [0, 11] {
        assert!(matches!(model.features_graph(end, ROWS), Err(Error::InvalidArgument { .. })), "{end}");
    }
    assert!(model.features_graph(10, ROWS).is_ok());
}

#[test]
fn stale_features_are_errors_and_change_nothing() {
    let with_features = || {
        let mut t = trainer(model(), Sgd::new(0.1).momentum(0.9), options());
        t.freeze("conv*", FreezeRule::all()).unwrap();
        let features = t.prefix_features(&data()).unwrap();
        (t, features.batches(ROWS, 0).unwrap().next().unwrap())
    };
    let assert_stale = |t: &mut Trainer, batch: &Batch| {
        let before = t.digest().unwrap();
        let error = t.step_above(batch).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
        assert!(error.to_string().contains("prefix_features"), "{error}");
        assert_eq!((t.digest().unwrap(), t.steps()), (before, 0));
    };
    let (mut thawed, batch) = with_features();
    thawed.thaw("conv2.bias", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
    assert_stale(&mut thawed, &batch);
    let (mut set, batch) = with_features();
    set.set_and_freeze("conv1.bias", &[0.5; 4], &Mask::all(4).unwrap()).unwrap();
    assert_stale(&mut set, &batch);
    let mut never = trainer(model(), Sgd::new(0.1), options());
    assert_stale(&mut never, &batch);

    let (mut loaded, batch) = with_features();
    let file = std::env::temp_dir().join(format!("frazil-prefix-{}.safetensors", std::process::id()));
    loaded.save(&file).unwrap();
    loaded.load(&file).unwrap();
    assert_stale(&mut loaded, &batch);

    // Features stay valid after operations that cannot change a frozen weight of the prefix.
    let (mut valid, batch) = with_features();
    let snapshot = valid.snapshot().unwrap();
    valid.rewind(&snapshot, RewindState::Restore).unwrap();
    valid.load_weights(&file, "*").unwrap();
    valid.prune("*.kernel", FreezeRule::smallest(0.3)).unwrap();
    valid.step_above(&batch).unwrap();
    assert_eq!(valid.verify_frozen().unwrap().changed(), 0);
    std::fs::remove_file(&file).unwrap();

    // The masks of the layers above the prefix may change; the change applies from the next step on.
    let (mut t, batch) = with_features();
    t.step_above(&batch).unwrap();
    t.freeze("fc2.*", FreezeRule::all()).unwrap();
    let before = t.parameter("fc2.kernel").unwrap();
    t.step_above(&batch).unwrap();
    assert_eq!(t.parameter("fc2.kernel").unwrap(), before);
    assert_eq!(t.verify_frozen().unwrap().changed(), 0);
    // `step_above` rejects examples, because they do not have the shape of features.
    let examples = data().batches(ROWS, 0).unwrap().next().unwrap();
    assert!(matches!(t.step_above(&examples), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(t.step_above(&Batch::default()), Err(Error::EmptyBatch { .. })));
}

/// Each reason why no layer's outputs can be cached is named, instead of a denial of layers that are frozen.
#[test]
fn refusal_to_cache_names_the_reason() {
    let refused = |optimizer: Optimizer, options: TrainerOptions, model: Model, frozen: &[&str]| {
        let mut t = trainer(model, optimizer, options);
        for glob in frozen {
            t.freeze(glob, FreezeRule::all()).unwrap();
        }
        assert_eq!(t.frozen_prefix(), 0);
        match t.prefix_features(&data()) {
            Err(Error::InvalidArgument { got, .. }) => got,
            other => panic!("{other:?}"),
        }
    };
    let sgd = || Optimizer::from(Sgd::new(0.1));
    let normalized = Model::input([6, 4, 3]).batch_norm("bn").flatten().dense("fc", 3).build().unwrap();
    let over_all = sgd().clip(Clip::Norm { max: 1.0, over_all: true });
    let dense = options().gradient_policy(GradientPolicy::Dense);
    let dropped = Model::input([6, 4, 3]).dropout(0.5).flatten().dense("fc", 3).build().unwrap();
    let cases = [
        (refused(sgd(), options(), model(), &["*"]), "all parameters frozen"),
        (refused(sgd(), options(), normalized, &["*"]), "all parameters frozen"),
        (refused(sgd(), options(), model(), &["conv1.kernel"]), "4 trainable elements in conv1.bias"),
        (refused(over_all, options(), model(), &["conv1.*"]), "clip over all"),
        (refused(sgd(), dense, model(), &["conv1.*"]), "GradientPolicy::Dense"),
        (refused(sgd(), options(), dropped, &[]), "layer \"dropout0\""),
    ];
    for (got, part) in cases {
        assert!(got.contains(part), "expected {part}, got {got}");
    }
}
