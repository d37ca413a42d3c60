//! `frazil summary`, `export`, `inspect` and `predict`: networks and files of other programs.

use crate::program::{folder, frazil, lines};
use frazil::Model;
use frazil::checkpoint::Checkpoint;
use frazil::interop::{TorchStateDict, npy, read_onnx};
use serde_json::json;
use std::path::PathBuf;

fn stored(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/interop").join(name)
}

#[test]
fn summary_lists_layers_of_models_and_files() {
    let text = String::from_utf8(frazil(&["summary", "digits"]).stdout).unwrap();
    for part in ["conv1", "[8, 8, 16]", "160", "38282 trained parameters"] {
        assert!(text.contains(part), "{text}");
    }
    let onnx = stored("mini_resnet.train.onnx");
    let objects = lines(&frazil(&["summary", onnx.to_str().unwrap(), "--json"]));
    let (done, layers) = objects.split_last().unwrap();
    let flops: u64 = layers.iter().map(|layer| layer["flops"].as_u64().unwrap()).sum();
    assert_eq!((done["done"].as_bool(), done["flops"].as_u64()), (Some(true), Some(flops)));
    assert!(
        layers.iter().any(|layer| layer["layer"] == "layer2.0.downsample.0" && layer["parameters"] == 128)
    );
    let folded = stored("mini_resnet.eval.onnx");
    let text = String::from_utf8(frazil(&["summary", folded.to_str().unwrap()]).stdout).unwrap();
    assert!(text.contains("folded batch norms"), "{text}");
}

#[test]
fn trained_networks_are_exported_with_their_masks() {
    let out = folder("export");
    let run = out.join("run");
    let path = |name: &str| out.join(name).to_str().unwrap().to_owned();
    let trained = frazil(&["train", "--epochs", "1", "--out", run.to_str().unwrap()]);
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let weights = path("run/weights.safetensors");
    let checkpoint = Checkpoint::read(weights.as_ref()).unwrap();
    let model = checkpoint.model().unwrap().expect("the architecture");
    assert_eq!(model.to_json(), Model::digits().unwrap().to_json());

    let text = String::from_utf8(frazil(&["summary", &weights]).stdout).unwrap();
    assert!(text.contains("conv1.kernel: 72 elements frozen (50.0 %)"), "{text}");

    let [onnx, torch] = [path("net.onnx"), path("net.safetensors")];
    for (to, file) in [("onnx", &onnx), ("torch", &torch)] {
        let output = frazil(&["export", &weights, "--to", to, "-o", file]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains(file.as_str()));
    }
    let read = read_onnx(&onnx).unwrap();
    let names = TorchStateDict::new(&model).unwrap();
    let state_dict = names.read(&torch).unwrap();
    assert_eq!((state_dict.missing, state_dict.unused), (vec![], vec![]));
    for (path, values) in read.parameters.iter().chain(&state_dict.parameters) {
        let bits: Vec<_> = values.iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, checkpoint.tensor(path).unwrap().bits(), "{path}");
    }
    let masks = names.read_masks(path("net.masks.safetensors")).unwrap();
    assert_eq!(masks.len(), 2);
    assert!(masks.iter().all(|(path, mask)| *mask == checkpoint.mask(path)));

    let npz = path("net.npz");
    let output = frazil(&["export", &weights, "--to", "npz", "-o", &npz]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let arrays = npy::read_npz(&npz).unwrap();
    for parameter in model.parameters() {
        let (_, array) = arrays.iter().find(|(name, _)| *name == parameter.path).unwrap();
        let tensor = checkpoint.tensor(&parameter.path).unwrap();
        assert_eq!(array.shape, tensor.shape());
        let bits: Vec<_> = array.clone().into_f32().unwrap().iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, tensor.bits(), "{}", parameter.path);
    }
    let masks: Vec<_> = arrays.iter().filter(|(name, _)| name.starts_with("mask.")).collect();
    assert_eq!(masks.len(), 2);
    for (name, array) in masks {
        let mask = checkpoint.mask(&name["mask.".len()..]);
        let expected = (0..mask.len()).map(|index| mask.is_frozen(index)).collect();
        assert_eq!(array.elements, npy::Elements::Bool(expected), "{name}");
    }

    let text = String::from_utf8(frazil(&["summary", &npz, "--model", "digits"]).stdout).unwrap();
    assert!(text.contains("38282 trained parameters"), "{text}");

    // A state dict names no architecture, so that the model must be named.
    let refused = frazil(&["export", &torch, "--to", "onnx", "-o", &path("other.onnx")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--model"));
    let named = frazil(&["export", &torch, "--model", "digits", "--to", "onnx", "-o", &path("other.onnx")]);
    assert!(named.status.success(), "{}", String::from_utf8_lossy(&named.stderr));
    assert_eq!(read_onnx(path("other.onnx")).unwrap().parameters, read.parameters);
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn predefined_models_get_the_size_and_outputs_of_a_file() {
    let out = folder("outputs");
    std::fs::create_dir_all(&out).unwrap();
    let model = Model::named_for("digits", &[12, 12, 1], 3).unwrap();
    let parameters: Vec<_> =
        model.parameters().iter().map(|p| (p.path.clone(), vec![0.5; p.shape.elements()])).collect();
    let [torch, npz] = ["net.safetensors", "net.npz"].map(|name| out.join(name));
    TorchStateDict::new(&model).unwrap().write_parameters(&torch, &parameters, 0).unwrap();
    npy::write_weights(&npz, &model, &parameters, &[] as &[(String, frazil::Mask)]).unwrap();
    for file in [&torch, &npz] {
        let file = file.to_str().unwrap();
        let plain = frazil(&["summary", file, "--model", "digits"]);
        let message = String::from_utf8_lossy(&plain.stderr);
        assert!(!plain.status.success() && message.contains("--outputs and --size"), "{message}");
        let flags = ["--model", "digits", "--size", "12x12x1", "--outputs", "3"];
        let objects = lines(&frazil(&[&["summary", file, "--json"], &flags[..]].concat()));
        let elements: usize = model.parameters().iter().map(|p| p.shape.elements()).sum();
        assert_eq!(objects.last().unwrap()["trained"], elements, "{file}");
    }
    let alone = frazil(&["summary", torch.to_str().unwrap(), "--outputs", "3"]);
    assert_eq!(alone.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&alone.stderr).contains("--model"));
    let text = String::from_utf8(frazil(&["summary", "resnet18", "--outputs", "7"]).stdout).unwrap();
    assert!(text.contains("[7]"), "{text}");
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn files_of_every_format_are_inspected() {
    let inspect = |name: &str| {
        let file = stored(name);
        let text = frazil(&["inspect", file.to_str().unwrap()]);
        assert!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
        let json = lines(&frazil(&["inspect", "--json", file.to_str().unwrap()]));
        (String::from_utf8(text.stdout).unwrap(), json)
    };
    for (name, tensor, shape, format) in [
        ("digits_cnn.pth", "features.3.weight", vec![32, 16, 3, 3], "PyTorch"),
        ("digits_keras.keras", "layers/conv2d/vars/0", vec![3, 3, 1, 16], "Keras model"),
        ("digits_keras.weights.h5", "layers/conv2d/vars/0", vec![3, 3, 1, 16], "Keras weights"),
        ("digits_cnn.inputs.npy", "", vec![16, 1, 8, 8], "NumPy array"),
        ("digits_cnn.train.onnx", "features.3.weight", vec![32, 16, 3, 3], "ONNX"),
    ] {
        let (text, json) = inspect(name);
        assert!(text.contains(&format!("{shape:?}")) && text.contains(format), "{name}: {text}");
        let entry = json.iter().find(|line| line["tensor"] == tensor).unwrap();
        assert_eq!((&entry["dtype"], &entry["shape"]), (&json!("f32"), &json!(shape)), "{name}");
        assert_eq!(json.last().unwrap()["format"], format, "{name}");
    }
    let (text, json) = inspect("digits_cnn.train.onnx");
    assert!(text.contains("operators: ") && text.contains("Conv (2)") && text.contains("input "), "{text}");
    assert_eq!(json.last().unwrap()["operators"]["Conv"], 2);
    // Integers in a state dict of PyTorch are listed with their shapes.
    let (text, json) = inspect("digits_cnn.f32.safetensors");
    assert!(text.contains("num_batches_tracked") && text.contains("not read"), "{text}");
    let counter = json.iter().find(|line| line["tensor"] == "features.1.num_batches_tracked").unwrap();
    assert_eq!(counter["shape"], json!([]));
}

#[test]
fn files_that_are_no_networks_are_named_errors() {
    let file = stored("digits_cnn.inputs.npy");
    let refused = |arguments: &[&str], code: i32, part: &str| {
        let output = frazil(arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{message}");
        assert!(message.contains(part), "{message}");
    };
    refused(&["summary", file.to_str().unwrap()], 1, "NumPy");
    refused(&["summary", "nowhere.onnx"], 1, "nowhere.onnx");
    refused(&["summary", file.to_str().unwrap(), "--model", "resnet"], 2, "resnet20");
    refused(&["export", "digits", "--to", "onnx", "-o", "x"], 1, "digits");
}

#[test]
fn predictions_of_files_are_those_of_pytorch() {
    let out = folder("predict");
    std::fs::create_dir_all(&out).unwrap();
    let result = out.join("y.npy");
    let inputs = stored("digits_cnn.inputs.npy");
    let predict = |layout: &str| {
        let network = stored("digits_cnn.eval.onnx");
        let [network, inputs, result] = [&network, &inputs, &result].map(|path| path.to_str().unwrap());
        frazil(&["predict", network, "--input", inputs, "--layout", layout, "--output", result])
    };
    let output = predict("nchw");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let [got, expected] = [&result, &stored("digits_cnn.logits.npy")].map(|path| npy::read(path).unwrap());
    assert_eq!((&got.shape, &got.shape), (&expected.shape, &vec![16, 10]));
    let (got, expected) = (got.into_f32().unwrap(), expected.into_f32().unwrap());
    let largest = expected.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
    assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-5 * largest));
    // [16, 1, 8, 8] are no images of 8 x 8 pixels with the channels last.
    let refused = predict("nhwc");
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(message.contains("[8, 8, 1]") && message.contains("--layout"), "{message}");
    std::fs::remove_dir_all(out).unwrap();
}
