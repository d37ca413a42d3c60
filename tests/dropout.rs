//! Tests of dropout: its random masks, and training with it.

use crate::support::device::{device, gpu};
use crate::support::executor::{Operand, Single, reference};
use crate::support::training::*;
use frazil::layer::Layer;
use frazil::low_level::GemmFamily;
use frazil::low_level::{Dropout, Op, StepScalars};
use frazil::{Adam, Error, FreezeRule, Loss, Model, Padding, Sgd, Trainer, TrainerOptions};

/// Returns which of `elements` elements dropout keeps. Asserts that the CPU reference and the device keep the
/// same ones, and that both scale them by `1 / (1 - rate)`.
fn kept(dropout: Dropout, seed: [u32; 2], draw: u32, elements: usize) -> Vec<bool> {
    let x = Operand::batch(&[1, elements], vec![1.0; elements]);
    let single = Single::new(Op::Dropout(dropout), std::slice::from_ref(&x));
    let family = GemmFamily::choose(gpu().report());
    // One GEMM family is enough, because dropout uses no GEMM and its kernel is the same in every family.
    let of_each = [reference(&single.graph), device(&single.graph, family)].map(|mut executor| {
        executor.write(single.inputs[0], &x.data).unwrap();
        executor.run(StepScalars { seed, draw, ..StepScalars::forward(1) }).unwrap();
        let y = executor.read(single.outputs[0]);
        for y in y.iter().filter(|y| **y != 0.0) {
            assert!((y * (1.0 - dropout.rate) - 1.0).abs() < 1e-6, "{y}");
        }
        y.into_iter().map(|y| y != 0.0).collect::<Vec<_>>()
    });
    let [in_reference, on_device] = of_each;
    assert!(in_reference == on_device, "{dropout:?}, seed {seed:?}, draw {draw}");
    on_device
}

#[test]
fn masks_agree_on_both_executors_and_depend_on_seed_draw_and_layer() {
    let first = Dropout { rate: 0.3, layer: 0 };
    let mask = kept(first, [7, 9], 4, 5003);
    assert_eq!(mask, kept(first, [7, 9], 4, 5003));
    let others = [
        kept(first, [7, 9], 5, 5003),
        kept(first, [8, 9], 4, 5003),
        kept(first, [7, 8], 4, 5003),
        kept(Dropout { layer: 1, ..first }, [7, 9], 4, 5003),
        kept(first, [u32::MAX; 2], u32::MAX, 5003),
    ];
    for other in &others {
        // Two independent masks that keep 70 % of the elements agree on 0.7^2 + 0.3^2 = 58 % of them.
        let agree = mask.iter().zip(other).filter(|(a, b)| a == b).count() as f64 / 5003.0;
        assert!((agree - 0.58).abs() < 0.04, "{agree}");
    }
}

#[test]
fn the_fraction_kept_is_one_minus_the_rate() {
    let elements = 40_000;
    for rate in [0.0, 0.01, 0.25, 0.5, 0.9, 0.999] {
        let count = kept(Dropout { rate, layer: 2 }, [1, 2], 3, elements).iter().filter(|k| **k).count();
        let deviation = (rate * (1.0 - rate) * elements as f64).sqrt();
        assert!((count as f64 - (1.0 - rate) * elements as f64).abs() <= 4.0 * deviation, "{rate}: {count}");
    }
    assert_eq!(Dropout { rate: 0.5, layer: 0 }.threshold(), 1 << 31);
    assert_eq!(Dropout { rate: 1.0 - f64::EPSILON, layer: 0 }.threshold(), u32::MAX);
}

/// Returns a model with a convolution, dropout, and a residual block with another dropout.
fn model_with_dropout(rate: f64) -> Model {
    Model::input([5, 5, 2])
        .conv2d("conv", 5, [3, 3], |c| c.padding(Padding::Same))
        .relu()
        .dropout(rate)
        .residual("join", |m| m.conv2d("a", 5, [1, 1], |c| c).dropout(rate), |m| m)
        .flatten()
        .dense("fc", 4)
        .build()
        .unwrap()
}

fn trainer_of(model: Model, seed: u64) -> Trainer {
    let options = TrainerOptions::batch(ROWS).seed(seed);
    Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, Adam::new(0.01), options).unwrap()
}

#[test]
fn backward_uses_the_masks_of_forward() {
    let rule = frazil::low_level::UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let ops = |model: &Model| -> Vec<Dropout> {
        let training = model.training_graph(4, Loss::SoftmaxCrossEntropy, rule).unwrap();
        let all = training.graph.nodes().iter();
        all.filter_map(|node| if let Op::Dropout(d) = node.op { Some(d) } else { None }).collect()
    };
    let of = |layer| Dropout { rate: 0.5, layer };
    assert_eq!(ops(&model_with_dropout(0.5)), [of(0), of(1), of(1), of(0)]);
    assert_eq!(ops(&model_with_dropout(0.0)), []);
    let evaluation = model_with_dropout(0.5).evaluation_graph(4, Loss::SoftmaxCrossEntropy).unwrap();
    assert!(evaluation.graph.nodes().iter().all(|node| !matches!(node.op, Op::Dropout(_))));
}

#[test]
fn rates_out_of_range_are_rejected() {
    for rate in [-0.1, 1.0, 1.5, f64::NAN, f64::INFINITY] {
        let built = Model::input([3]).dropout(rate).dense("fc", 2).build();
        assert!(matches!(built, Err(Error::InvalidArgument { .. })), "{rate}");
        let mut graph = frazil::low_level::Graph::new(1).unwrap();
        let x = graph.batch_input("x", &[3], frazil::low_level::DType::F32).unwrap();
        assert!(graph.push(Op::Dropout(Dropout { rate, layer: 0 }), &[x], "dropout").is_err(), "{rate}");
    }
    assert_eq!(Layer::Dropout { rate: 0.2 }.output("drop", &[&[2, 3]]).unwrap(), [2, 3]);
}

#[test]
fn a_rate_of_zero_trains_bit_for_bit_as_no_dropout() {
    let run = |rate, seed| {
        let mut t = trainer_of(model_with_dropout(rate), seed);
        train(&mut t, 8);
        t.digest().unwrap()
    };
    let plain = Model::input([5, 5, 2])
        .conv2d("conv", 5, [3, 3], |c| c.padding(Padding::Same))
        .relu()
        .residual("join", |m| m.conv2d("a", 5, [1, 1], |c| c), |m| m)
        .flatten()
        .dense("fc", 4)
        .build()
        .unwrap();
    let mut t = trainer_of(plain, 3);
    train(&mut t, 8);
    assert_eq!(run(0.0, 3), t.digest().unwrap());
    assert_ne!(run(0.3, 3), t.digest().unwrap());
    assert_eq!(run(0.3, 3), run(0.3, 3), "the same seed gives the same bits");
}

#[test]
fn evaluation_ignores_dropout() {
    let with = trainer_of(model_with_dropout(0.5), 3);
    let without = trainer_of(model_with_dropout(0.0), 3);
    let data = data();
    let (a, b) = (with.evaluate(&data).unwrap(), without.evaluate(&data).unwrap());
    assert_eq!((a.loss.to_bits(), a.correct), (b.loss.to_bits(), b.correct));
}

#[test]
fn a_resumed_run_continues_the_draws() {
    let all = batches(14);
    let file = std::env::temp_dir().join(format!("frazil-dropout-{}.safetensors", std::process::id()));
    let mut uninterrupted = trainer_of(model_with_dropout(0.4), 3);
    uninterrupted.freeze("*", FreezeRule::random(0.3).seed(2)).unwrap();
    all[..7].iter().for_each(|batch| uninterrupted.step(batch).unwrap());
    uninterrupted.save(&file).unwrap();
    all[7..].iter().for_each(|batch| uninterrupted.step(batch).unwrap());
    // The resumed trainer is created with another seed, so that the comparison fails unless the seed of the
    // file takes effect.
    let mut resumed = trainer_of(model_with_dropout(0.4), 99);
    resumed.load(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    all[7..].iter().for_each(|batch| resumed.step(batch).unwrap());
    assert_eq!(resumed.digest().unwrap(), uninterrupted.digest().unwrap());
}

#[test]
fn frozen_elements_keep_their_bits() {
    let options = continuing();
    let mut t = Trainer::new(
        gpu(),
        model_with_dropout(0.4),
        Loss::SoftmaxCrossEntropy,
        Sgd::new(0.05).momentum(0.9).weight_decay(0.1),
        options,
    )
    .unwrap();
    freeze_half_at(&mut t, &ODD_FINITE_BITS);
    let before = snapshot(&t);
    train(&mut t, 10);
    assert_frozen("dropout", &t, &before);
    assert!(moved(&t, &before).0 > 0);
}

/// The dropout mask of a batch with fewer rows than the batch size (3 of 7) equals the first rows of the mask
/// of a full batch. The unused rows contain NaN, so that the test fails if they are read.
#[test]
fn a_short_batch_draws_the_first_rows_of_the_mask() {
    let elements = 7 * 5;
    let dropout = Dropout { rate: 0.5, layer: 0 };
    let mut data = vec![1.0; elements];
    data[15..].fill(f64::NAN);
    let x = Operand::batch(&[7, 5], data);
    let single = Single::new(Op::Dropout(dropout), std::slice::from_ref(&x));
    let mut on_device = device(&single.graph, GemmFamily::choose(gpu().report()));
    on_device.write(single.inputs[0], &x.data).unwrap();
    on_device.run(StepScalars { draw: 6, ..StepScalars::forward(3) }).unwrap();
    let y = on_device.read(single.outputs[0]);
    let wanted = kept(dropout, [0; 2], 6, elements);
    for (i, y) in y.iter().enumerate() {
        assert_eq!(*y, if i < 15 && wanted[i] { 2.0 } else { 0.0 }, "{i}");
    }
}
