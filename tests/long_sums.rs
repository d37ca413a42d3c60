//! Trains models with longer sums than one invocation of a kernel can loop over on software adapters, which
//! end all loops after 65,535 iterations.

use crate::support::device::gpu;
use frazil::low_level::{DType, Graph, Op, Plan, PlanOptions};
use frazil::{Batch, Dataset, Error, FreezeRule, Loss, Mask, Model, Padding, Sgd, Trainer, TrainerOptions};

/// A batch of `rows` images of `pixels` values, whose labels are the row numbers.
fn batch(rows: usize, pixels: usize) -> Batch {
    let value = |i: usize| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * (1.0 + (i / pixels) as f32);
    Batch {
        features: (0..rows * pixels).map(value).collect(),
        labels: (0..rows as u32).collect(),
        ..Batch::default()
    }
}

fn trainer(model: Model, rows: usize, learning_rate: f64) -> Trainer {
    let options = TrainerOptions::batch(rows).seed(5);
    Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, Sgd::new(learning_rate), options).unwrap()
}

/// Trains some steps, and asserts that the loss decreases from the cross-entropy of `classes` equal classes.
fn learns(t: &mut Trainer, batch: &Batch, classes: usize) {
    let losses: Vec<f32> = (0..4).map(|_| t.step_loss(batch).unwrap()).collect();
    let uniform = (classes as f32).ln();
    assert!((losses[0] - uniform).abs() < 0.5 * uniform, "{losses:?}, expected about {uniform}");
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0]), "{losses:?}");
    assert!(t.predict(&batch.features).unwrap().iter().all(|x| x.is_finite()));
}

#[test]
fn global_average_pool_and_batch_norm_of_255x255_train_at_batch_1() {
    let model = Model::input([255, 255, 1])
        .conv2d("conv", 3, [3, 3], |c| c.padding(Padding::Same))
        .batch_norm("bn")
        .relu()
        .global_avg_pool()
        .dense("fc", 4)
        .build()
        .unwrap();
    let mut t = trainer(model, 1, 0.1);
    learns(&mut t, &batch(1, 255 * 255), 4);
    // One trainable kernel element: its gradient is a sum over the 65,025 pixels of a single image.
    let mask = Mask::from_trainable((0..27).map(|i| i == 13));
    t.replace_mask("conv.kernel", mask, frazil::ThawPolicy::KeepState).unwrap();
    t.freeze("conv.bias", FreezeRule::all()).unwrap();
    let before = t.parameter("conv.kernel").unwrap();
    t.step(&batch(1, 255 * 255)).unwrap();
    let after = t.parameter("conv.kernel").unwrap();
    let changed: Vec<usize> = (0..27).filter(|&i| before[i] != after[i]).collect();
    assert_eq!(changed, [13]);
    assert_eq!(t.verify_frozen().unwrap().changed(), 0);
}

#[test]
fn pools_with_windows_of_128x128_and_255x255_train() {
    let model = Model::input([256, 256, 1])
        .conv2d("conv", 2, [1, 1], |c| c)
        .max_pool2d([128, 128])
        .flatten()
        .dense("fc", 3)
        .build()
        .unwrap();
    learns(&mut trainer(model, 2, 0.1), &batch(2, 256 * 256), 3);
    let model = Model::input([255, 255, 1])
        .conv2d("conv", 4, [1, 1], |c| c)
        .avg_pool2d([255, 255])
        .flatten()
        .dense("fc", 3)
        .build()
        .unwrap();
    learns(&mut trainer(model, 2, 0.1), &batch(2, 255 * 255), 3);
}

#[test]
fn hundred_thousand_classes_train() {
    let classes = 100_000;
    let model = Model::input([6]).dense("fc", classes).build().unwrap();
    let mut t = trainer(model, 3, 1.0);
    let mut batch = batch(3, 6);
    batch.labels = vec![7, 65_536, 99_999];
    learns(&mut t, &batch, classes);
    t.metrics().unwrap();
    // Steps until the metrics, which search all classes for the largest output, count every row as correct.
    for _ in 0..20 {
        t.step(&batch).unwrap();
        if t.metrics().unwrap().correct == Some(3) {
            let data = Dataset::new("classes", [6], batch.features.clone(), batch.labels.clone(), classes);
            let evaluation = t.evaluate(&data.unwrap()).unwrap();
            assert_eq!((evaluation.correct, evaluation.accuracy()), (Some(3), 1.0));
            let confusion = evaluation.confusion.unwrap();
            assert_eq!((confusion.correct(), confusion.count(65_536, 65_536)), (3, 1));
            return;
        }
    }
    panic!("expected 3 correct predictions");
}

#[test]
fn limit_of_classes_names_what_helps() {
    let plan = |classes: usize| {
        let mut graph = Graph::new(2).unwrap();
        let logits = graph.batch_input("logits", &[classes], DType::F32).unwrap();
        let softmax = graph.push_one(Op::Softmax, &[logits], "softmax").unwrap();
        graph.mark_output(softmax).unwrap();
        Plan::estimate(&graph, gpu().report(), &PlanOptions::default())
    };
    assert!(plan(4_000_000).is_ok());
    let error = plan(6_000_000).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    assert!(error.to_string().contains("use fewer classes"), "{error}");
}
