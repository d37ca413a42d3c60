//! Trains every predefined model for one step on the device, and tests models with average pooling.

use crate::support::device::gpu;
use crate::support::training::{Snapshot, assert_frozen, moved, snapshot};
use frazil::data::synthetic;
use frazil::layer::Init;
use frazil::{Digits, FreezeRule, Loss, Model, Padding, Sgd, Trainer, TrainerOptions};

#[test]
fn every_predefined_model_trains() {
    for name in Model::NAMES {
        // Images of 224x224 would take minutes on software adapters.
        let model = match name {
            "resnet18" | "resnet34" | "resnet50" | "mobilenet_v2" | "efficientnet_b0" => {
                Model::named_for(name, &[64, 64, 3], 10)
            }
            // Half a gigabyte of weights; their layers are those of cifar.
            "vgg11" | "vgg11_bn" | "vgg16" | "vgg16_bn" => continue,
            _ => Model::named(name),
        };
        let model = model.unwrap();
        let data = synthetic(name, model.example_shape(), 10, 4, 1).unwrap();
        let options = TrainerOptions::batch(2).seed(3);
        let mut trainer =
            Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, Sgd::new(0.01), options).unwrap();
        let read = |trainer: &Trainer| -> Vec<Vec<f32>> {
            let parameters = trainer.model().parameters();
            parameters.iter().map(|p| trainer.parameter(&p.path).unwrap()).collect()
        };
        let before = read(&trainer);
        let batch = data.in_order(2).unwrap().next().unwrap();
        let loss = trainer.step_loss(&batch).unwrap();
        assert!(loss.is_finite() && loss > 0.0, "{name}: {loss}");
        let after = read(&trainer);
        for ((before, after), spec) in before.iter().zip(&after).zip(trainer.model().parameters()) {
            // In MobileNet, a batch-norm scale that precedes a depthwise convolution has gradient 0: the
            // batch norm after the convolution normalizes each channel again, which cancels the scale.
            let path = spec.path.as_str();
            let before_depthwise =
                path == "bn1.scale" || path.starts_with("pointwise") && path.ends_with(".scale");
            let invariant = name == "mobilenet-small" && before_depthwise;
            assert!(invariant || before != after, "{name}: {} did not change", spec.path);
            assert!(after.iter().all(|x| x.is_finite()), "{name}: {}", spec.path);
        }
        assert!(trainer.evaluate(&data).unwrap().loss.is_finite(), "{name}");
    }
}

/// Builds a model with two average-pooling layers: 3x3 windows with stride 2 and padding, which overlap, and
/// 2x2 windows with stride 2, which skip the last row and column.
fn average_pooling_model() -> Model {
    Model::input([7, 7, 2])
        // With these initial weights every unit is active for some example, so that every weight trains.
        .conv2d("conv1", 5, [3, 3], |c| c.padding(Padding::Same).init(Init::GlorotUniform))
        .relu()
        .avg_pool2d_with([3, 3], |p| p.stride([2, 2]).padding(Padding::Same))
        .conv2d("conv2", 6, [2, 2], |c| c.init(Init::GlorotUniform))
        .relu()
        .avg_pool2d([2, 2])
        .flatten()
        .dense("fc", 3)
        .build()
        .unwrap()
}

#[test]
fn training_with_average_pooling_is_reproducible() {
    // 22 examples in batches of 6: the last batch of each epoch has 4 examples.
    let data = synthetic("averaging", [7, 7, 2], 3, 22, 8).unwrap();
    let run = || -> (f64, f64, Snapshot) {
        let optimizer = Sgd::new(0.1).momentum(0.9);
        let options = TrainerOptions::batch(6).seed(3);
        let mut t =
            Trainer::new(gpu(), average_pooling_model(), Loss::SoftmaxCrossEntropy, optimizer, options)
                .unwrap();
        t.freeze("conv*.kernel", FreezeRule::random(0.3).seed(4)).unwrap();
        // Freezes the dense layer, so that the gradients of all trainable weights pass through the pooling
        // layers.
        t.freeze("fc.*", FreezeRule::all()).unwrap();
        let (start, before) = (snapshot(&t), t.evaluate(&data).unwrap().loss);
        for epoch in 0..40 {
            for batch in data.batches_for_epoch(6, 2, epoch).unwrap() {
                t.step(&batch).unwrap();
            }
        }
        assert_frozen("averaging", &t, &start);
        let (moved, trainable) = moved(&t, &start);
        assert_eq!(moved, trainable, "trainable weights that changed");
        (before, t.evaluate(&data).unwrap().loss, snapshot(&t))
    };
    let (before, after, bits) = run();
    assert!(after < 0.2 * before, "the loss goes from {before} to {after}");
    let again = run();
    assert_eq!((before.to_bits(), after.to_bits()), (again.0.to_bits(), again.1.to_bits()));
    assert!(bits == again.2, "the weights or the state of two runs differ");
}

#[test]
fn max_and_avg_pool_use_stride_padding_and_dilation() {
    let rows = |padding: Padding, stride: usize, dilation: usize| {
        let set =
            |p: frazil::layer::Pool2dLayer| p.padding(padding).stride([stride, 1]).dilation([dilation; 2]);
        let build = |model: frazil::model::ModelBuilder| model.flatten().dense("fc", 1).build().unwrap();
        let models = [
            build(Model::input([9, 7, 2]).max_pool2d_with([3, 3], set)),
            build(Model::input([9, 7, 2]).avg_pool2d_with([3, 3], set)),
        ];
        models.map(|model| model.parameters()[0].shape.extents()[0])
    };
    assert_eq!(rows(Padding::Valid, 1, 1), [7 * 5 * 2; 2]);
    assert_eq!(rows(Padding::Valid, 1, 2), [5 * 3 * 2; 2]);
    assert_eq!(rows(Padding::Same, 2, 1), [5 * 7 * 2; 2]);
}

/// A kernel without an initializer gets He's if a rectifier follows, directly or through layers that do not
/// change the sign, otherwise Glorot's; an explicit one stays.
#[test]
fn default_initializers_depend_on_what_follows_the_layer() {
    let same = |c: frazil::layer::Conv2dLayer| c.padding(Padding::Same);
    let model = Model::input([8, 8, 2])
        .conv2d("relu", 4, [3, 3], same)
        .relu()
        .conv2d("norm_pool_relu", 4, [3, 3], same)
        .batch_norm("bn")
        .max_pool2d([2, 2])
        .dropout(0.1)
        .relu()
        .conv2d("given", 4, [3, 3], |c| same(c).init(Init::GlorotNormal))
        .relu()
        .conv2d("linear", 4, [3, 3], same)
        .residual(
            "block",
            |main| main.conv2d("gelu", 4, [3, 3], same).gelu().conv2d("sum_relu", 4, [3, 3], same),
            |shortcut| shortcut.conv2d("sum_relu2", 4, [1, 1], same),
        )
        .leaky_relu(0.1)
        .flatten()
        .dense("tanh", 8)
        .tanh()
        .dense("dense_leaky", 8)
        .leaky_relu(0.1)
        .dense("last", 3)
        .build()
        .unwrap();
    let kernels = model.parameters().iter().filter(|p| p.path.ends_with(".kernel"));
    let found: Vec<_> = kernels.map(|p| (p.path.trim_end_matches(".kernel"), p.init.clone())).collect();
    let (he, glorot) = (Init::HeUniform, Init::GlorotUniform);
    let expected = [
        ("relu", he.clone()),
        ("norm_pool_relu", he.clone()),
        ("given", Init::GlorotNormal),
        ("linear", glorot.clone()),
        ("block.gelu", he.clone()),
        ("block.sum_relu", he.clone()),
        ("block.sum_relu2", he.clone()),
        ("tanh", glorot.clone()),
        ("dense_leaky", he),
        ("last", glorot),
    ];
    assert_eq!(found, expected);
}

/// A network of 16 dense layers with ReLU learns with the default initializers; with Glorot's its loss stays
/// that of guessing.
#[test]
fn deep_relu_network_learns_with_the_default_initializer_only() {
    let train = Digits::train().unwrap();
    let losses = |init: Option<Init>| {
        let mut model = Model::input([8, 8, 1]).flatten();
        for layer in 0..16 {
            let init = init.clone();
            model = model
                .dense_with(&format!("fc{layer}"), 64, |d| match init {
                    Some(init) => d.init(init),
                    None => d,
                })
                .relu();
        }
        let model = model.dense("last", 10).build().unwrap();
        let options = TrainerOptions::batch(64).seed(1);
        let mut t = Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, Sgd::new(0.05), options).unwrap();
        let mut losses = Vec::new();
        for epoch in 0..8 {
            for batch in train.batches_for_epoch(64, 1, epoch).unwrap() {
                t.step(&batch).unwrap();
            }
            losses.push(t.metrics().unwrap().loss);
        }
        losses
    };
    let (default, glorot) = (losses(None), losses(Some(Init::GlorotUniform)));
    println!("loss by epoch: default {default:.4?}, Glorot {glorot:.4?}");
    assert!(default[7] < 1.8, "{default:?}");
    assert!(glorot[7] > 2.25, "{glorot:?}");
}
