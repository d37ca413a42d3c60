//! Tests the import and export of PyTorch state dicts, with networks that PyTorch saved (tests/interop).

use crate::support::compare::share_of_largest;
use crate::support::device::gpu;
use frazil::checkpoint::Checkpoint;
use frazil::interop::TorchStateDict;
use frazil::{Digits, Error, FreezeRule, Loss, Model, Padding, Sgd, Trainer, TrainerOptions};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use std::path::{Path, PathBuf};

pub fn stored(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(name)
}

/// A path in the folder of temporary files that no other test uses.
fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("frazil-torch-{}-{name}.safetensors", std::process::id()))
}

/// The elements of an array in NumPy's format.
pub fn npy(name: &str) -> Vec<f32> {
    frazil::interop::npy::read(stored(name)).unwrap().into_f32().unwrap()
}

fn same() -> Padding {
    Padding::Explicit { top: 1, bottom: 1, left: 1, right: 1 }
}

/// `DigitsCnn` of generate.py, whose layers have the names in `names`.
pub fn digits_cnn(names: [&str; 6]) -> Model {
    let [conv1, bn1, conv2, bn2, fc1, fc2] = names;
    Model::input([8, 8, 1])
        .conv2d(conv1, 16, [3, 3], |c| c.padding(same()))
        .batch_norm(bn1)
        .relu()
        .conv2d(conv2, 32, [3, 3], |c| c.padding(same()).bias(false))
        .batch_norm(bn2)
        .relu()
        .max_pool2d([2, 2])
        .flatten()
        .dense(fc1, 64)
        .relu()
        .dropout(0.2)
        .dense(fc2, 10)
        .build()
        .unwrap()
}

pub const TORCH_NAMES: [&str; 6] =
    ["features.0", "features.1", "features.3", "features.4", "classifier.1", "classifier.4"];

/// `MiniResNet` of generate.py, with other names for the layers of the blocks' shortcuts.
pub fn mini_resnet() -> Model {
    let mut model = Model::input([8, 8, 1])
        .conv2d("conv1", 8, [3, 3], |c| c.padding(same()).bias(false))
        .batch_norm("bn1")
        .relu();
    for (name, channels, stride) in
        [("layer1.0", 8, 1), ("layer1.1", 8, 1), ("layer2.0", 16, 2), ("layer2.1", 16, 1)]
    {
        model = model
            .residual(
                name,
                |b| {
                    b.conv2d("conv1", channels, [3, 3], |c| c.padding(same()).bias(false).stride([stride; 2]))
                        .batch_norm("bn1")
                        .relu()
                        .conv2d("conv2", channels, [3, 3], |c| c.padding(same()).bias(false))
                        .batch_norm("bn2")
                },
                |b| {
                    if stride == 1 {
                        return b;
                    }
                    b.conv2d("projection", channels, [1, 1], |c| c.bias(false).stride([stride; 2]))
                        .batch_norm("projection_bn")
                },
            )
            .relu();
    }
    model.global_avg_pool().dense("fc", 10).build().unwrap()
}

pub fn mini_resnet_names(model: &Model) -> TorchStateDict {
    let names = TorchStateDict::new(model).unwrap();
    let names = names.rename("layer2.0.projection", "layer2.0.downsample.0").unwrap();
    names.rename("layer2.0.projection_bn", "layer2.0.downsample.1").unwrap()
}

pub fn trainer(model: Model) -> Trainer {
    let options = TrainerOptions::batch(16).seed(3);
    Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, Sgd::new(0.05).momentum(0.9), options).unwrap()
}

pub fn loaded(model: Model, names: &TorchStateDict, file: &str) -> Trainer {
    let weights = names.read(stored(file)).unwrap();
    assert_eq!((weights.missing, weights.unused), (vec![], vec![]), "{file}");
    let mut trainer = trainer(model);
    assert_eq!(weights.parameters.len(), trainer.model().parameters().len());
    trainer.set_parameters(&weights.parameters).unwrap();
    trainer
}

/// The largest difference to PyTorch's logits, as a fraction of the largest logit. The images have one channel, so
/// that their layouts are the same.
pub fn error_of_logits(trainer: &Trainer, network: &str) -> f64 {
    let expected = npy(&format!("{network}.logits.npy"));
    let got = trainer.predict(&npy(&format!("{network}.inputs.npy"))).unwrap();
    assert_eq!((got.len(), expected.len()), (160, 160));
    share_of_largest(&got, &expected)
}

#[test]
fn imported_networks_give_the_logits_of_pytorch() {
    let model = digits_cnn(TORCH_NAMES);
    let names = TorchStateDict::new(&model).unwrap();
    // A half has 11 significant bits, a bfloat16 has 8; the errors of some hundred products add up to a few roundings.
    for (dtype, most) in [("f32", 1e-5), ("f64", 1e-5), ("f16", 2e-3), ("bf16", 2e-2)] {
        let trainer = loaded(model.clone(), &names, &format!("digits_cnn.{dtype}.safetensors"));
        let error = error_of_logits(&trainer, "digits_cnn");
        assert!(error <= most, "{dtype}: {error:e}");
        // Halves are not the original weights, so a comparison with the wrong file is seen.
        assert!(dtype == "f32" || dtype == "f64" || error > 1e-5, "{dtype}: {error:e}");
    }
    let model = mini_resnet();
    let trainer = loaded(model.clone(), &mini_resnet_names(&model), "mini_resnet.f32.safetensors");
    let error = error_of_logits(&trainer, "mini_resnet");
    assert!(error <= 1e-5, "{error:e}");
}

#[test]
fn smaller_element_types_are_the_nearest_values() {
    let names = TorchStateDict::new(&digits_cnn(TORCH_NAMES)).unwrap();
    let read =
        |dtype: &str| names.read(stored(&format!("digits_cnn.{dtype}.safetensors"))).unwrap().parameters;
    let exact = read("f32");
    assert_eq!(read("f64"), exact, "f64 copies of f32 values");
    for (dtype, digits, smallest) in [("f16", 11, -24), ("bf16", 8, -133)] {
        for ((path, got), (_, exact)) in read(dtype).iter().zip(&exact) {
            for (got, exact) in got.iter().zip(exact) {
                let unit = (2f32.powi(-digits) * exact.abs()).max(2f32.powi(smallest - 1));
                assert!((got - exact).abs() <= unit, "{dtype} {path}: {got} for {exact}");
            }
        }
    }
}

/// Layers with this crate's usual names, renamed to PyTorch's: the same parameters, under other paths.
#[test]
fn renamed_layers_read_the_same_values() {
    let names = ["conv1", "bn1", "conv2", "bn2", "fc1", "fc2"];
    let mut renamed = TorchStateDict::new(&digits_cnn(names)).unwrap();
    for (layer, module) in names.into_iter().zip(TORCH_NAMES) {
        renamed = renamed.rename(layer, module).unwrap();
    }
    let file = stored("digits_cnn.f32.safetensors");
    let values = |names: &TorchStateDict| {
        names.read(&file).unwrap().parameters.into_iter().map(|(_, values)| values).collect::<Vec<_>>()
    };
    assert_eq!(values(&renamed), values(&TorchStateDict::new(&digits_cnn(TORCH_NAMES)).unwrap()));
    // The order of the features of the first dense layer matters.
    let kept = renamed.clone().flattened("fc1", [512, 1, 1]).unwrap();
    assert_ne!(values(&kept), values(&renamed));
    assert_eq!(kept.flattened("fc1", [32, 4, 4]).unwrap(), renamed);
    // A rule for a residual layer covers the layers inside; a later rule replaces it for one of them.
    let model = mini_resnet();
    let blocks = mini_resnet_names(&model)
        .rename("layer2.1", "block")
        .unwrap()
        .rename("layer2.1.bn2", "last")
        .unwrap();
    let missing = blocks.read(stored("mini_resnet.f32.safetensors")).unwrap().missing;
    assert_eq!(missing.len(), 2 + 2 * 4, "{missing:?}");
    assert!(missing.iter().any(|name| name == "block.conv1.weight"));
    assert!(missing.iter().any(|name| name == "last.running_var"));
}

/// Every tensor of floating-point numbers has the bytes that PyTorch wrote.
#[test]
fn exported_state_dict_is_the_imported_one() {
    let digits = digits_cnn(TORCH_NAMES);
    let resnet = mini_resnet();
    let networks = [
        ("digits_cnn", TorchStateDict::new(&digits).unwrap(), digits),
        ("mini_resnet", mini_resnet_names(&resnet), resnet),
    ];
    for (network, names, model) in networks {
        let original = format!("{network}.f32.safetensors");
        let written = temporary(network);
        names.write(&written, &loaded(model, &names, &original)).unwrap();
        let [original, written_bytes] =
            [&stored(&original), &written].map(|path| std::fs::read(path).unwrap());
        let [original, copy] =
            [&original, &written_bytes].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
        let sorted = |tensors: &SafeTensors| {
            let mut names: Vec<_> = tensors.names().into_iter().map(ToOwned::to_owned).collect();
            names.sort();
            names
        };
        assert_eq!(sorted(&original), sorted(&copy), "{network}");
        for (name, tensor) in original.tensors() {
            let other = copy.tensor(&name).unwrap();
            assert_eq!((tensor.dtype(), tensor.shape()), (other.dtype(), other.shape()), "{name}");
            // The number of batches is the trainer's, here 0.
            assert!(name.ends_with("num_batches_tracked") || tensor.data() == other.data(), "{name}");
        }
        std::fs::remove_file(written).unwrap();
    }
}

#[test]
fn imported_network_trains_with_the_taps_of_a_mask_file_frozen() {
    let model = digits_cnn(TORCH_NAMES);
    let names = TorchStateDict::new(&model).unwrap();
    let mut trainer = loaded(model, &names, "digits_cnn.f32.safetensors");
    let masks = names.read_masks(stored("centre_taps.masks.safetensors")).unwrap();
    let [(path, mask)] = masks.as_slice() else { panic!("{masks:?}") };
    assert_eq!((path.as_str(), mask.frozen_count()), ("features.0.kernel", 16));
    let before = trainer.parameter(path).unwrap();
    trainer.freeze(path, FreezeRule::mask(mask.clone())).unwrap();
    for batch in Digits::train().unwrap().batches(16, 5).unwrap().take(20) {
        trainer.step(&batch).unwrap();
    }
    let after = trainer.parameter(path).unwrap();
    // HWIO [3, 3, 1, 16]: the centre taps are the elements 64 to 79.
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(before.to_bits() == after.to_bits(), (64..80).contains(&index), "element {index}");
    }
    let written = temporary("masks");
    names.write_masks(&written, &trainer.masks()).unwrap();
    let copy = Checkpoint::read(&written).unwrap();
    let original = Checkpoint::read(&stored("centre_taps.masks.safetensors")).unwrap();
    assert_eq!(copy.tensors(), original.tensors());
    std::fs::remove_file(written).unwrap();
}

/// Writes a file with these tensors.
fn file_with(name: &str, tensors: &[(&str, Dtype, &[usize], &[u8])]) -> PathBuf {
    let path = temporary(name);
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()));
    std::fs::write(&path, serialize(views, None).unwrap()).unwrap();
    path
}

#[test]
fn files_that_do_not_fit_are_named_errors() {
    let model = Model::input([3]).dense("fc", 2).build().unwrap();
    let names = TorchStateDict::new(&model).unwrap();
    let refused = |tensors: &[(&str, Dtype, &[usize], &[u8])]| {
        let path = file_with("refused", tensors);
        let error = names.read(&path).unwrap_err();
        std::fs::remove_file(path).unwrap();
        assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
        error.to_string()
    };
    let zeros = [0; 48];
    let error = refused(&[("fc.weight", Dtype::F32, &[3, 2], &zeros[..24])]);
    assert!(error.contains("expected [2, 3] for fc.kernel, got [3, 2]"), "{error}");
    let error = refused(&[("fc.weight", Dtype::I64, &[2, 3], &zeros)]);
    assert!(error.contains("expected F32, F16, BF16 or F64, got I64"), "{error}");
    let error = refused(&[("head.weight", Dtype::F32, &[2, 3], &zeros[..24])]);
    assert!(
        error.contains("\"fc.weight\"") && error.contains("\"head.weight\"") && error.contains("rename"),
        "{error}"
    );
    let huge: Vec<u8> = [0.0, 1e300].iter().flat_map(|x: &f64| x.to_le_bytes()).collect();
    let error = refused(&[("fc.bias", Dtype::F64, &[2], &huge)]);
    assert!(error.contains("element 1") && error.contains("1e300"), "{error}");

    // Missing and unused names are reported; integers are not tensors of weights.
    let path = file_with(
        "partly",
        &[
            ("fc.bias", Dtype::F32, &[2], &zeros[..8]),
            ("head.bias", Dtype::F16, &[1], &zeros[..2]),
            ("count", Dtype::I64, &[], &zeros[..8]),
        ],
    );
    let read = names.read(&path).unwrap();
    assert_eq!(read.parameters, [("fc.bias".to_owned(), vec![0.0; 2])]);
    assert_eq!((read.missing, read.unused), (vec!["fc.weight".to_owned()], vec!["head.bias".to_owned()]));
    std::fs::remove_file(path).unwrap();

    for (what, tensor, expected) in [
        ("another name", ("count", Dtype::BOOL, &[2][..], &zeros[..2]), "\"count\""),
        ("numbers", ("fc.bias", Dtype::U8, &[2], &[0, 7]), "expected 0 or 1, got 7"),
        ("floats", ("fc.bias", Dtype::F32, &[2], &zeros[..8]), "expected BOOL or U8, got F32"),
        ("shape", ("fc.weight", Dtype::BOOL, &[6], &zeros[..6]), "expected [2, 3] for fc.kernel, got [6]"),
    ] {
        let path = file_with("mask", &[tensor]);
        let error = names.read_masks(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{what}: {error}");
        std::fs::remove_file(path).unwrap();
    }
}

/// A header of 0x4b50 bytes: its size, which begins the file, is `PK` as text.
#[test]
fn safetensors_file_that_begins_like_an_archive_is_read() {
    let model = Model::input([3]).dense("fc", 2).build().unwrap();
    let header = r#"{"fc.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let mut bytes = 0x4b50u64.to_le_bytes().to_vec();
    bytes.extend(format!("{header:0$}", 0x4b50).into_bytes());
    bytes.extend([1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()));
    assert!(bytes.starts_with(b"PK"));
    let path = temporary("pk");
    std::fs::write(&path, bytes).unwrap();
    let read = TorchStateDict::new(&model).unwrap().read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(read.parameters, [("fc.bias".to_owned(), vec![1.5, -2.0])]);
}

#[cfg(not(feature = "pytorch"))]
#[test]
fn files_of_torch_save_without_the_feature_are_named_errors() {
    let names = TorchStateDict::new(&digits_cnn(TORCH_NAMES)).unwrap();
    let error = names.read(stored("digits_cnn.pth")).unwrap_err().to_string();
    assert!(error.contains("feature `pytorch`") && error.contains("safetensors.torch.save_file"), "{error}");
}

#[test]
fn rules_that_do_not_fit_are_named_errors() {
    let model = Model::input([2, 2, 3]).flatten().batch_norm("bn").dense("fc", 2).build().unwrap();
    let names = || TorchStateDict::new(&model).unwrap();
    assert!(matches!(names().rename("conv", "features"), Err(Error::UnknownParameter { .. })));
    let error = names().rename("bn", "fc").unwrap_err().to_string();
    assert!(error.contains("unique") && error.contains("fc.weight"), "{error}");
    assert!(matches!(names().flattened("conv", [3, 2, 2]), Err(Error::UnknownParameter { .. })));
    for wrong in [[3, 2, 3], [usize::MAX, 2, 2]] {
        assert!(matches!(names().flattened("fc", wrong), Err(Error::ShapeMismatch { .. })), "{wrong:?}");
    }
    // A batch norm between the flatten and the dense layer is reordered, too.
    let values: Vec<u8> = (0..12u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let path = file_with("order", &[("bn.weight", Dtype::F32, &[12], &values)]);
    let read = names().read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    // The element of row 0, column 1, channel 2 is PyTorch's 2 * 4 + 1.
    assert_eq!(read.parameters[0].1[3 + 2], 9.0);
    let residual =
        Model::input([2, 2, 3]).flatten().residual("block", |b| b.dense("fc", 12), |b| b).build().unwrap();
    let error = TorchStateDict::new(&residual).unwrap_err().to_string();
    assert!(error.contains("block") && error.contains("flattened"), "{error}");
}

#[test]
fn set_parameters_changes_all_or_none() {
    let mut trainer = trainer(Model::input([3]).dense("fc", 2).build().unwrap());
    let before = trainer.parameter("fc.bias").unwrap();
    let changes = [("fc.bias", vec![1.0, 2.0]), ("fc.kernel", vec![1.0; 5])];
    assert!(matches!(trainer.set_parameters(&changes), Err(Error::ShapeMismatch { .. })));
    assert_eq!(trainer.parameter("fc.bias").unwrap(), before);
    trainer.set_parameters(&changes[..1]).unwrap();
    assert_eq!(trainer.parameter("fc.bias").unwrap(), [1.0, 2.0]);
}
