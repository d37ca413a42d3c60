//! Group norm, layer norm and instance norm as layers.

use crate::model_graphs::gradients_match_differences;
use crate::support::device::gpu;
use frazil::data::synthetic;
use frazil::interop::TorchStateDict;
use frazil::model::ModelBuilder;
use frazil::{Adam, Error, FreezeRule, Loss, Model, Padding::Same, Sgd, Trainer, TrainerOptions};

/// Every norm of examples, with parameters and without.
fn norms() -> ModelBuilder {
    let image = Model::input([4, 4, 2]).conv2d("conv", 4, [3, 3], |c| c.padding(Same));
    let groups = image.group_norm("gn", 2).tanh().group_norm_with("in", 4, |n| n.epsilon(1e-2));
    let layers = groups.layer_norm("ln").sigmoid().layer_norm_with("all", |n| n.over_examples(true));
    let plain = layers
        .group_norm_with("plain_gn", 1, |n| n.affine(false))
        .tanh()
        .layer_norm_with("plain_ln", |n| n.affine(false).epsilon(1e-2));
    plain.flatten().layer_norm("features").dense("fc", 3)
}

#[test]
fn gradients_of_norms_match_differences() {
    gradients_match_differences("norms", norms());
}

#[test]
fn norms_have_the_parameters_of_their_axes() {
    let model = norms().build().unwrap();
    let shapes: Vec<_> =
        model.parameters().iter().map(|p| (p.path.as_str(), p.shape.extents().to_vec())).collect();
    for (name, shape) in
        [("gn", vec![4]), ("in", vec![4]), ("ln", vec![4]), ("all", vec![4, 4, 4]), ("features", vec![64])]
    {
        for field in ["scale", "shift"] {
            assert!(shapes.contains(&(&format!("{name}.{field}"), shape.clone())), "{name}: {shapes:?}");
        }
    }
    assert!(!shapes.iter().any(|(path, _)| path.starts_with("plain")), "{shapes:?}");
}

/// The result of an example does not depend on the others of its batch, unlike that of a batch norm.
#[test]
fn norms_train_freeze_and_treat_examples_alone() {
    let data = synthetic("images", [4, 4, 2], 3, 24, 5).unwrap();
    let options = TrainerOptions::batch(8).seed(4);
    let model = norms().build().unwrap();
    let mut t = Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, Adam::new(0.01), options).unwrap();
    t.freeze("*.scale", FreezeRule::random(0.5)).unwrap();
    t.freeze("in.shift", FreezeRule::all()).unwrap();
    let before = t.parameters().unwrap();
    let first = t.evaluate(&data).unwrap().loss;
    for epoch in 0..100 {
        data.batches_for_epoch(8, 2, epoch).unwrap().for_each(|batch| t.step(&batch).unwrap());
    }
    let last = t.evaluate(&data).unwrap().loss;
    assert!(last < 0.7 * first, "the loss goes from {first} to {last}");
    for ((path, before), (_, after)) in before.iter().zip(t.parameters().unwrap()) {
        let mask = t.mask(path).unwrap();
        let norm = path.ends_with("scale") || path.ends_with("shift");
        for (index, (before, after)) in before.iter().zip(&after).enumerate().filter(|_| norm) {
            assert_eq!(before.to_bits() == after.to_bits(), mask.is_frozen(index), "{path} {index}");
        }
    }
    let all = t.predict(data.features()).unwrap();
    for (row, features) in data.features().chunks(32).enumerate() {
        assert_eq!(t.predict(features).unwrap(), all[3 * row..][..3], "{row}");
    }
}

#[test]
fn invalid_norms_are_named() {
    let refused = |model: ModelBuilder, parts: &[&str]| {
        let message = model.build().unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    let x = || Model::input([4, 4, 6]);
    refused(x().group_norm("gn", 4), &["gn", "divide 6 channels", "4"]);
    refused(x().group_norm("gn", 0), &["gn", "divide 6 channels", "0"]);
    refused(Model::input([1, 1, 6]).group_norm("gn", 6), &["gn", "2 elements or more", "[1, 1, 6]"]);
    refused(Model::input([5, 5, 1]).layer_norm("ln"), &["ln", "2 elements or more", "[5, 5, 1]"]);
    for epsilon in [0.0, -1.0, f64::NAN] {
        let model =
            x().layer_norm_with("ln", |n| n.epsilon(epsilon)).flatten().dense("fc", 2).build().unwrap();
        let options = TrainerOptions::batch(2);
        let error =
            Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
        assert!(error.to_string().contains("epsilon"), "{error}");
    }
    // PyTorch groups the features of flattened images by channel.
    let flat = x().flatten().group_norm("gn", 2).dense("fc", 2).build().unwrap();
    let error = TorchStateDict::new(&flat).unwrap_err().to_string();
    assert!(error.contains("gn") && error.contains("flattened"), "{error}");
}

/// PyTorch's layer norm over `[c, h, w]` has weights in that layout; one after a flatten has them in the order of the
/// flattened images.
#[test]
fn norms_have_the_names_and_layouts_of_pytorch() {
    let model = Model::input([2, 3, 4]).group_norm("gn", 2).layer_norm_with("ln", |n| n.over_examples(true));
    let model = model.flatten().layer_norm("features").dense("fc", 2).build().unwrap();
    let values = model
        .parameters()
        .iter()
        .map(|p| (p.path.clone(), (0..p.shape.elements()).map(|index| index as f32).collect::<Vec<_>>()));
    let values: Vec<_> = values.collect();
    let file = std::env::temp_dir().join(format!("frazil-norms-{}.safetensors", std::process::id()));
    let names = TorchStateDict::new(&model).unwrap();
    names.write_parameters(&file, &values, 0).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let stored = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, shape) in [
        ("gn.weight", vec![4]),
        ("gn.bias", vec![4]),
        ("ln.weight", vec![4, 2, 3]),
        ("ln.bias", vec![4, 2, 3]),
        ("features.weight", vec![24]),
        ("features.bias", vec![24]),
    ] {
        let tensor = stored.tensor(name).unwrap();
        assert_eq!(tensor.shape(), shape, "{name}");
        let first: Vec<_> = tensor
            .data()
            .chunks_exact(4)
            .take(3)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let expected = if name.starts_with("gn") { [0.0, 1.0, 2.0] } else { [0.0, 4.0, 8.0] };
        assert_eq!(first, expected, "{name}");
    }
    assert_eq!(names.read(&file).unwrap().parameters, values);
    std::fs::remove_file(file).unwrap();
}
