//! Steps that begin above the frozen layers: the same bits as whole steps, and features that no longer hold are refused.

use crate::support::device::{families, gpu};
use crate::support::training::optimizers;
use frazil::trainer::{GradientPolicy, RewindState};
use frazil::{
    Adam, Batch, Clip, Dataset, Error, FreezeRule, Loss, Mask, Model, Optimizer, Padding, Result, Sgd,
    ThawPolicy, Trainer, TrainerOptions,
};

const ROWS: usize = 4;

/// Convolution, pool and another convolution, then a head with dropout.
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

/// A last batch of two rows.
fn data() -> Dataset {
    frazil::data::synthetic("prefix", [6, 4, 3], 3, 4 * ROWS + 2, 5).unwrap()
}

fn trainer(model: Model, optimizer: impl Into<Optimizer>, options: TrainerOptions) -> Trainer {
    Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, optimizer, options.seed(3)).unwrap()
}

fn options() -> TrainerOptions {
    TrainerOptions::batch(ROWS)
}

/// Two epochs, in updates of so many batches.
fn train(t: &mut Trainer, data: &Dataset, above: bool, together: usize) -> Result<()> {
    for epoch in 0..2 {
        let batches: Vec<Batch> = data.batches_for_epoch(ROWS, 9, epoch)?.collect();
        for batches in batches.chunks(together) {
            if above { t.step_above_over(batches)? } else { t.step_over(batches)? }
        }
    }
    Ok(())
}

#[test]
fn steps_above_frozen_layers_are_whole_steps_to_the_bit() {
    let mut cases: Vec<_> =
        optimizers().into_iter().map(|(name, o)| (name.to_owned(), o, options(), 1)).collect();
    for family in families() {
        let name = format!("adam in {family}");
        cases.push((name, Adam::new(0.01).into(), options().family(family), 1));
    }
    let clipped = Optimizer::from(Sgd::new(0.1).momentum(0.9)).clip(Clip::norm(0.5));
    cases.push(("two batches an update".into(), clipped, options().accumulate(true), 2));
    let mut same = 0;
    for (name, optimizer, options, together) in cases {
        let [mut whole, mut above] = [(); 2].map(|()| trainer(model(), optimizer.clone(), options.clone()));
        for t in [&mut whole, &mut above] {
            t.freeze("conv*", FreezeRule::all()).unwrap();
            t.freeze("fc1.kernel", FreezeRule::random(0.5).seed(4)).unwrap();
        }
        let features = match above.prefix_features(&data()) {
            Ok(features) => features,
            // A norm over all gradients needs those of frozen layers.
            Err(Error::InvalidArgument { .. }) if above.frozen_prefix() == 0 => continue,
            Err(error) => panic!("{name}: {error}"),
        };
        assert_eq!((features.example_shape(), features.labels()), (&[48][..], data().labels()));
        train(&mut whole, &data(), false, together).unwrap();
        train(&mut above, &features, true, together).unwrap();
        let frozen = above.verify_frozen().unwrap();
        assert!(frozen.changed() == 0 && frozen.frozen() > 0, "{name}");
        assert_eq!(above.digest().unwrap(), whole.digest().unwrap(), "{name}");
        assert_eq!(above.metrics().unwrap(), whole.metrics().unwrap(), "{name}");
        assert_eq!(above.steps(), whole.steps());
        same += 1;
    }
    assert!(same > 20, "{same}");
}

#[test]
fn the_prefix_ends_where_something_trains_or_is_not_fixed() {
    let t = |model: Model, glob: &str| {
        let mut t = trainer(model, Sgd::new(0.1), options());
        t.freeze(glob, FreezeRule::all()).unwrap();
        t
    };
    assert_eq!(trainer(model(), Sgd::new(0.1), options()).frozen_prefix(), 0);
    assert_eq!(t(model(), "conv*").frozen_prefix(), 6);
    assert_eq!(t(model(), "conv1.*").frozen_prefix(), 3);
    assert_eq!(t(model(), "conv2.*").frozen_prefix(), 0, "the lowest layer trains");
    assert_eq!(t(model(), "conv1.kernel").frozen_prefix(), 0, "its bias trains");
    assert_eq!(t(model(), "*").frozen_prefix(), 0, "nothing trains");
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
    assert_eq!(t(join(0.0), "conv*").frozen_prefix(), 4);
    assert_eq!(t(join(0.5), "conv*").frozen_prefix(), 1);

    let mut dense = trainer(model(), Sgd::new(0.1), options().gradient_policy(GradientPolicy::Dense));
    dense.freeze("conv*", FreezeRule::all()).unwrap();
    assert_eq!(dense.frozen_prefix(), 0, "gradients of frozen elements are asked for");
}

#[test]
fn graphs_begin_and_end_at_layers_that_there_are() {
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
fn features_of_other_layers_are_refused_and_nothing_is_done() {
    let made = || {
        let mut t = trainer(model(), Sgd::new(0.1).momentum(0.9), options());
        t.freeze("conv*", FreezeRule::all()).unwrap();
        let features = t.prefix_features(&data()).unwrap();
        (t, features.batches(ROWS, 0).unwrap().next().unwrap())
    };
    let refused = |t: &mut Trainer, batch: &Batch| {
        let before = t.digest().unwrap();
        let error = t.step_above(batch).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
        assert!(error.to_string().contains("prefix_features"), "{error}");
        assert_eq!((t.digest().unwrap(), t.steps()), (before, 0));
    };
    let (mut thawed, batch) = made();
    thawed.thaw("conv2.bias", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
    refused(&mut thawed, &batch);
    let (mut set, batch) = made();
    set.set_and_freeze("conv1.bias", &[0.5; 4], &Mask::all(4)).unwrap();
    refused(&mut set, &batch);
    let mut never = trainer(model(), Sgd::new(0.1), options());
    refused(&mut never, &batch);

    let (mut loaded, batch) = made();
    let file = std::env::temp_dir().join(format!("frazil-prefix-{}.safetensors", std::process::id()));
    loaded.save(&file).unwrap();
    loaded.load(&file).unwrap();
    refused(&mut loaded, &batch);

    // What cannot move a frozen weight leaves them as they are.
    let (mut kept, batch) = made();
    let snapshot = kept.snapshot().unwrap();
    kept.rewind(&snapshot, RewindState::Restore).unwrap();
    kept.load_weights(&file, "*").unwrap();
    kept.prune("*.kernel", FreezeRule::smallest(0.3)).unwrap();
    kept.step_above(&batch).unwrap();
    assert_eq!(kept.verify_frozen().unwrap().changed(), 0);
    std::fs::remove_file(&file).unwrap();

    // Masks of the layers above may change: they hold from the next step on.
    let (mut t, batch) = made();
    t.step_above(&batch).unwrap();
    t.freeze("fc2.*", FreezeRule::all()).unwrap();
    let before = t.parameter("fc2.kernel").unwrap();
    t.step_above(&batch).unwrap();
    assert_eq!(t.parameter("fc2.kernel").unwrap(), before);
    assert_eq!(t.verify_frozen().unwrap().changed(), 0);
    // And examples are no features.
    let whole = data().batches(ROWS, 0).unwrap().next().unwrap();
    assert!(matches!(t.step_above(&whole), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(t.step_above(&Batch::default()), Err(Error::EmptyBatch { .. })));
}
