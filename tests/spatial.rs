//! Tests layers that change the size of images: transposed convolution, upsampling, adaptive pooling and pooling with
//! options. Their values and gradients are compared with golden vectors in tests/golden.rs.

use crate::support::device::gpu;
use crate::support::gradients::assert_gradients;
use frazil::interop::TorchStateDict;
use frazil::layer::Upsampling;
use frazil::low_level::{Op, UpdateRule};
use frazil::model::ModelBuilder;
use frazil::{
    Adam, Batch, Error, FreezeRule, Loss, Model, Padding, Padding::Same, Predictor, Sgd, ThawPolicy, Trainer,
    TrainerOptions,
};

const SGD: UpdateRule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

fn explicit(top: usize, bottom: usize, left: usize, right: usize) -> Padding {
    Padding::Explicit { top, bottom, left, right }
}

/// A batch for mean squared error: images, and targets that depend on them.
fn batch(rows: usize, inputs: usize, outputs: usize) -> Batch {
    let features: Vec<f32> = (0..rows * inputs).map(|i| (i as f32 * 0.7).sin()).collect();
    let targets = (0..rows * outputs).map(|i| 0.5 * features[i % features.len()] + 0.2).collect();
    Batch { features, targets, labels: vec![0; rows] }
}

/// Every layer of this file in one network of images.
fn every_layer() -> ModelBuilder {
    let image = Model::input([7, 6, 4]);
    let up = image.clone().conv_transpose2d("up", 4, [3, 3], |c| {
        c.stride([2, 2]).padding(explicit(1, 1, 1, 1)).output_padding([1, 0]).groups(2)
    });
    let same =
        image.clone().conv_transpose2d("same", 4, [4, 3], |c| c.stride([2, 2]).padding(Same).bias(false));
    let near = image.clone().upsample(Upsampling::Nearest, [2.0, 11.0 / 6.0]);
    let linear = image.clone().upsample_to(Upsampling::Bilinear, [14, 11]);
    let corners = same.upsample_to(Upsampling::BilinearCorners, [14, 11]);
    let counted = image.avg_pool2d_with([3, 2], |p| {
        p.stride([1, 1]).padding(explicit(2, 1, 1, 1)).count_padding(true).round_up(true)
    });
    let counted = counted.upsample_to(Upsampling::Nearest, [14, 11]);
    up.add("sum", [near, linear, corners, counted])
        .channel_shuffle(2)
        .local_response_norm(3, |n| n.alpha(0.8).k(1.5))
        .max_pool2d_with([3, 3], |p| p.stride([2, 2]).round_up(true))
        .adaptive_avg_pool2d([4, 3])
        .adaptive_avg_pool2d([6, 7])
        .adaptive_avg_pool2d([4, 3])
        .adaptive_max_pool2d([2, 3])
        .adaptive_avg_pool2d([1, 3])
        .adaptive_avg_pool2d([1, 1])
}

#[test]
fn gradients_match_differences_and_the_architecture_is_read_as_written() {
    let model = every_layer().build().unwrap();
    let shapes: Vec<_> = model.layers().iter().map(|layer| (layer.name(), layer.output().to_vec())).collect();
    let shape = |name: &str| shapes.iter().find(|(other, _)| *other == name).unwrap().1.clone();
    assert_eq!(shape("up"), [14, 11, 4]);
    assert_eq!(shape("same"), [14, 12, 4]);
    assert_eq!(model.output(), [1, 1, 4]);
    let copy = Model::from_json(&model.to_json()).unwrap();
    assert_eq!(copy.to_json(), model.to_json());
    assert_eq!(copy.summary().to_string(), model.summary().to_string());

    let built = model.training_graph(2, Loss::MeanSquaredError, SGD).unwrap();
    let graph = &built.graph;
    let update = graph.nodes().iter().find(|n| matches!(n.op, Op::Update(..))).unwrap();
    let Op::Update(_, targets) = &update.op else { unreachable!() };
    let wave = |n: usize, step: f64| (0..n).map(|i| (0.3 + i as f64 * step).sin()).collect::<Vec<_>>();
    let mut data = vec![(built.input, wave(2 * 168, 1.7)), (built.labels, wave(8, 0.9))];
    let mut pairs = Vec::new();
    for (number, (target, &gradient)) in targets.iter().zip(&update.inputs).enumerate() {
        let value = graph.parameter_value(target.parameter).unwrap();
        data.push((value, wave(graph.value(value).unwrap().shape.elements(), 2.1 + number as f64)));
        pairs.push((value, gradient));
    }
    assert_eq!(pairs.len(), 3);
    assert_gradients("spatial", graph, built.mean_loss, &pairs, &data, 1.0 / 262_144.0, 1e-6);
}

#[test]
fn transposed_convolution_trains_with_frozen_taps() {
    for options in [false, true] {
        let model = Model::input([5, 4, 4])
            .conv_transpose2d("up", 6, [3, 3], |c| {
                let c = c.stride([2, 2]).padding(explicit(1, 1, 1, 1)).output_padding([1, 1]);
                if options { c.groups(2).bias(false) } else { c }
            })
            .relu()
            .conv2d("head", 1, [3, 3], |c| c.padding(Same))
            .build()
            .unwrap();
        assert_eq!(model.output(), [10, 8, 1]);
        let mut trainer = Trainer::new(
            gpu(),
            model,
            Loss::MeanSquaredError,
            Adam::new(0.01),
            TrainerOptions::batch(4).seed(2),
        )
        .unwrap();
        let batch = batch(4, 80, 80);
        let first = trainer.step_loss(&batch).unwrap();
        // Momentum from before must not move the frozen taps.
        for _ in 0..3 {
            trainer.step(&batch).unwrap();
        }
        trainer.freeze("up.kernel", FreezeRule::kernel_position(1, 1)).unwrap();
        let before = trainer.parameter("up.kernel").unwrap();
        for _ in 0..100 {
            trainer.step(&batch).unwrap();
        }
        let mask = trainer.mask("up.kernel").unwrap();
        let after = trainer.parameter("up.kernel").unwrap();
        assert_eq!(mask.frozen_count(), if options { 3 * 4 } else { 6 * 4 });
        for (index, (before, after)) in before.iter().zip(&after).enumerate() {
            assert_eq!(before.to_bits() == after.to_bits(), mask.is_frozen(index), "element {index}");
        }
        assert_eq!(trainer.verify_frozen().unwrap().changed(), 0);
        let last = trainer.step_loss(&batch).unwrap();
        assert!(last < 0.7 * first, "{first} -> {last}");

        // Whole input channels: PyTorch's first axis is the last one here.
        trainer.thaw("up.kernel", FreezeRule::all(), ThawPolicy::KeepState).unwrap();
        trainer.freeze("up.kernel", FreezeRule::all()).unwrap();
        assert!(!trainer.report().avoided.is_empty());
        let before = trainer.parameter("up.kernel").unwrap();
        trainer.step(&batch).unwrap();
        assert_eq!(trainer.parameter("up.kernel").unwrap(), before);
    }
}

#[test]
fn few_trainable_elements_of_a_transposed_kernel_have_the_dense_gradient() {
    let model =
        || Model::input([6, 6, 8]).conv_transpose2d("up", 8, [2, 2], |c| c.stride([2, 2])).build().unwrap();
    let trainer = || {
        let options = TrainerOptions::batch(3).seed(4);
        Trainer::new(gpu(), model(), Loss::MeanSquaredError, Sgd::new(0.5), options).unwrap()
    };
    let (mut all, mut few) = (trainer(), trainer());
    let mask = frazil::Mask::from_trainable((0..256).map(|i| i % 67 == 3));
    few.freeze("up.kernel", FreezeRule::mask(mask.clone())).unwrap();
    let before = few.parameter("up.kernel").unwrap();
    assert_eq!(before, all.parameter("up.kernel").unwrap());
    let batch = batch(3, 288, 1152);
    all.step(&batch).unwrap();
    few.step(&batch).unwrap();
    let [dense, sparse] = [&all, &few].map(|t| t.parameter("up.kernel").unwrap());
    for index in 0..256 {
        if mask.is_frozen(index) {
            assert_eq!(sparse[index].to_bits(), before[index].to_bits(), "element {index}");
        } else {
            assert!((dense[index] - sparse[index]).abs() <= 1e-6, "element {index}");
            assert!(dense[index] != before[index], "element {index}");
        }
    }
}

#[test]
fn state_dicts_have_the_layout_of_pytorch() {
    let model =
        Model::input([4, 4, 3]).conv_transpose2d("up", 2, [2, 3], |c| c.stride([2, 2])).build().unwrap();
    let parameter = &model.parameters()[0];
    assert_eq!(parameter.shape.extents(), [2, 3, 2, 3]);
    // The value of an element says where it belongs: tap * 100 + output * 10 + input.
    let kernel: Vec<f32> = (0..36).map(|i| (i / 6 * 100 + i / 3 % 2 * 10 + i % 3) as f32).collect();
    let file = std::env::temp_dir().join(format!("frazil-transposed-{}.safetensors", std::process::id()));
    let names = TorchStateDict::new(&model).unwrap();
    let parameters = [("up.kernel".to_owned(), kernel.clone()), ("up.bias".to_owned(), vec![1.0, 2.0])];
    names.write_parameters(&file, &parameters, 0).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let weight = tensors.tensor("up.weight").unwrap();
    assert_eq!(weight.shape(), [3, 2, 2, 3]);
    let values: Vec<f32> =
        weight.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let expected: Vec<f32> = (0..36).map(|i| (i % 6 * 100 + i / 6 % 2 * 10 + i / 12) as f32).collect();
    assert_eq!(values, expected);
    assert_eq!(names.read(&file).unwrap().parameters, parameters);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn invalid_sizes_are_named_errors() {
    let image = || Model::input([6, 4, 3]);
    let transposed =
        |change: fn(frazil::layer::ConvTranspose2dLayer) -> frazil::layer::ConvTranspose2dLayer| {
            image().conv_transpose2d("up", 4, [2, 2], change)
        };
    for (builder, parts) in [
        (transposed(|c| c.output_padding([1, 0])), ["up", "below the stride 1"]),
        (transposed(|c| c.stride([2, 2]).padding(Same).output_padding([1, 0])), ["up", "Same"]),
        (transposed(|c| c.padding(explicit(4, 3, 0, 0))), ["up", "7 of padding"]),
        (transposed(|c| c.groups(2)), ["up", "groups that divide"]),
        (transposed(|c| c.stride([0, 1])), ["up", "from 1 to 2^20"]),
        (transposed(|c| c.stride([1 << 20, 1 << 20])), ["up", "1,048,576"]),
        (transposed(|c| c.dilation([usize::MAX, 1])), ["up", "from 1 to 2^20"]),
        (transposed(|c| c.padding(explicit(usize::MAX, 1, 0, 0))), ["up", "padding up to 2^20"]),
        (image().flatten().conv_transpose2d("up", 4, [2, 2], |c| c), ["up", "[h, w, c]"]),
        (image().upsample(Upsampling::Nearest, [0.1, 1.0]), ["upsample0", "factor"]),
        (image().upsample(Upsampling::Bilinear, [f64::NAN, 1.0]), ["upsample0", "factor"]),
        (image().upsample(Upsampling::Bilinear, [1.0, f64::INFINITY]), ["upsample0", "factor"]),
        (image().upsample_to(Upsampling::Nearest, [0, 3]), ["upsample0", "above 0"]),
        (image().upsample_to(Upsampling::Nearest, [1 << 20, 1 << 20]), ["shape", "at most"]),
        (image().flatten().upsample(Upsampling::Nearest, [2.0, 2.0]), ["upsample1", "[h, w, c]"]),
        (image().channel_shuffle(0), ["channel_shuffle0", "groups that divide"]),
        (image().channel_shuffle(5), ["channel_shuffle0", "groups that divide"]),
        (image().flatten().channel_shuffle(2), ["channel_shuffle1", "[h, w, c]"]),
        (image().local_response_norm(0, |n| n), ["local_response_norm0", "1 channel or more"]),
        (image().local_response_norm(3, |n| n.k(0.0)), ["local_response_norm0", "k above 0"]),
        (image().local_response_norm(3, |n| n.alpha(-1.0)), ["local_response_norm0", "alpha of 0 or more"]),
        (
            image().local_response_norm(3, |n| n.alpha(1e38).k(1e-30)),
            ["local_response_norm0", "finite in f32"],
        ),
        (image().local_response_norm(3, |n| n.beta(f64::NAN)), ["local_response_norm0", "beta above 0"]),
        (image().local_response_norm(usize::MAX, |n| n), ["local_response_norm0", "1,048,576"]),
        (image().adaptive_avg_pool2d([0, 2]), ["adaptive_avg_pool0", "1 or more rows"]),
        (image().adaptive_max_pool2d([2, 5]), ["adaptive_max_pool0", "divides [6, 4]"]),
        (image().adaptive_max_pool2d([4, 2]), ["adaptive_max_pool0", "divides [6, 4]"]),
        (image().max_pool2d_with([2, 2], |p| p.count_padding(true)), ["max_pool0", "never the largest"]),
        (
            image().avg_pool2d_with([2, 2], |p| {
                p.padding(explicit(1, 1, 1, 1)).dilation([2, 1]).count_padding(true)
            }),
            ["avg_pool0", "dilation 1"],
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. } | Error::ShapeMismatch { .. }), "{error}");
        let message = error.to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message} lacks one of {parts:?}");
    }
}

/// Values and gradients next to NaN: an interpolation of weight 0 does not spread it.
#[test]
fn pixels_of_weight_0_are_not_read() {
    let model = Model::input([2, 3, 1]).upsample_to(Upsampling::BilinearCorners, [3, 5]).build().unwrap();
    let none: [(String, Vec<f32>); 0] = [];
    let y = Predictor::new(gpu(), model, &none, 1).unwrap();
    let y = y.predict(&[1.0, f32::NAN, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let nan: Vec<_> = (0..15).filter(|&i| y[i].is_nan()).collect();
    assert_eq!(nan, [1, 2, 3, 6, 7, 8], "{y:?}");
    assert_eq!((y[0], y[4], y[12], y[14]), (1.0, 3.0, 5.0, 6.0));
}

#[test]
fn unet_trains_by_mean_squared_error_and_is_reproducible() {
    let run = || {
        let model = Model::unet_small(&[32, 24, 3], 2).unwrap();
        assert_eq!(model.output(), [32, 24, 2]);
        let mut trainer = Trainer::new(
            gpu(),
            model,
            Loss::MeanSquaredError,
            Adam::new(0.003),
            TrainerOptions::batch(2).seed(9),
        )
        .unwrap();
        trainer.freeze("up2.transposed.kernel", FreezeRule::kernel_position(0, 1)).unwrap();
        let batch = batch(2, 32 * 24 * 3, 32 * 24 * 2);
        let losses: Vec<f32> = (0..12).map(|_| trainer.step_loss(&batch).unwrap()).collect();
        assert!(losses[11] < 0.6 * losses[0], "{losses:?}");
        assert_eq!(trainer.verify_frozen().unwrap().changed(), 0);
        trainer.parameters().unwrap()
    };
    assert!(run() == run());
}
