//! Tests the import and export of networks in ONNX files: those that PyTorch's two exporters wrote (tests/interop),
//! and our own, judged by ONNX's checker and reference evaluator.

use crate::support::compare::share_of_largest;
use crate::support::device::gpu;
use crate::support::onnx::tensor;
use crate::support::soak::{Case, damage, soak};
use crate::support::{say, skip};
use crate::torch::{npy as array, stored};
use frazil::interop::npy::{self, Array, Elements};
use frazil::interop::{OnnxNetwork, read_onnx, write_onnx};
use frazil::layer::{Layer, Upsampling};
use frazil::model::Source;
use frazil::{
    Digits, Error, FreezeRule, Loss, Mask, Model, Padding, Predictor, Sgd, Trainer, TrainerOptions,
};
use std::path::{Path, PathBuf};
use std::process::Command;

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("frazil-onnx-{}-{name}", std::process::id()))
}

fn predictor(network: &OnnxNetwork, batch: usize) -> Predictor {
    Predictor::new(gpu(), network.model.clone(), &network.parameters, batch).unwrap()
}

#[test]
fn networks_of_both_exporters_give_the_logits_of_pytorch() {
    for network in ["digits_cnn", "mini_resnet"] {
        // The images have one channel, so that their layouts are the same.
        let inputs = array(&format!("{network}.inputs.npy"));
        for (export, logits) in [("eval", ""), ("dynamo", ""), ("train", ".train")] {
            let read = read_onnx(stored(&format!("{network}.{export}.onnx"))).unwrap();
            let got = predictor(&read, 16).predict(&inputs).unwrap();
            let error = share_of_largest(&got, &array(&format!("{network}{logits}.logits.npy")));
            assert!(error <= 1e-5, "{network}.{export}: {error:e}");
            let folded = read.notes.iter().any(|note| note.contains("folded batch norms"));
            assert_eq!(folded, export != "train", "{network}.{export}: {:?}", read.notes);
        }
    }
    // A comparison with the logits of other weights is seen.
    let read = read_onnx(stored("digits_cnn.train.onnx")).unwrap();
    let got = predictor(&read, 16).predict(&array("digits_cnn.inputs.npy")).unwrap();
    assert!(share_of_largest(&got, &array("digits_cnn.logits.npy")) > 1e-4);
}

#[test]
fn layers_have_the_names_of_the_modules() {
    let read = read_onnx(stored("mini_resnet.train.onnx")).unwrap();
    let paths: Vec<_> = read.parameters.iter().map(|(path, _)| path.as_str()).collect();
    for path in ["conv1.kernel", "layer1.0.bn2.running_var", "layer2.0.downsample.1.scale", "fc.bias"] {
        assert!(paths.contains(&path), "{path} in {paths:?}");
    }
    let names: Vec<_> = read.model.layers().iter().map(|layer| layer.name()).collect();
    assert!(names.contains(&"layer1.0.relu_1") && names.contains(&"layer2.1.add"), "{names:?}");
    // The weights of the other exporter lost their names, its nodes did not.
    let read = read_onnx(stored("mini_resnet.eval.onnx")).unwrap();
    assert!(read.parameters.iter().any(|(path, _)| path == "layer2.0.downsample.0.kernel"));
    let norm = |layer: &Layer| matches!(layer, Layer::BatchNorm(_) | Layer::Dropout { .. });
    let count = |name: &str| {
        let model = read_onnx(stored(name)).unwrap().model;
        model.layers().iter().filter(|named| norm(named.layer())).count()
    };
    assert_eq!([count("digits_cnn.train.onnx"), count("digits_cnn.eval.onnx")], [3, 0]);
}

#[test]
fn imported_network_trains_with_frozen_taps() {
    let read = read_onnx(stored("digits_cnn.train.onnx")).unwrap();
    let options = TrainerOptions::batch(32).seed(3);
    let mut trainer =
        Trainer::new(gpu(), read.model, Loss::SoftmaxCrossEntropy, Sgd::new(0.05), options).unwrap();
    trainer.set_parameters(&read.parameters).unwrap();
    trainer.freeze("features.*.kernel", FreezeRule::kernel_position(1, 1)).unwrap();
    let before = trainer.parameter("features.3.kernel").unwrap();
    for batch in Digits::train().unwrap().batches(32, 5).unwrap().take(20) {
        trainer.step(&batch).unwrap();
    }
    let (after, mask) =
        (trainer.parameter("features.3.kernel").unwrap(), trainer.mask("features.3.kernel").unwrap());
    assert_eq!(mask.frozen_count(), 16 * 32);
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(before.to_bits() == after.to_bits(), mask.is_frozen(index), "element {index}");
    }
    assert!(trainer.evaluate(&Digits::test().unwrap()).unwrap().accuracy() > 0.8);
}

/// A model with every kind of layer that has a counterpart.
fn every_layer() -> Model {
    let image =
        Model::input([9, 7, 3]).conv2d("stem", 6, [3, 3], |c| c.padding(Padding::Same).stride([2, 2]));
    let norm = image.batch_norm_with("bn", |n| n.epsilon(1e-3).momentum(0.01)).leaky_relu(0.2);
    let wide =
        norm.clone().conv2d("wide", 6, [3, 3], |c| c.padding(Padding::Same).dilation([2, 2]).groups(3));
    let again = wide.clone().gelu().repeat("wide_again", &wide);
    let pooled =
        norm.clone().max_pool2d_with([3, 3], |p| p.stride([1, 1]).padding(Padding::Same)).gelu_tanh();
    let mean = norm.clone().avg_pool2d_with([3, 3], |p| p.stride([1, 1]).padding(Padding::Same)).sigmoid();
    let gate = norm.clone().clamp(-0.5, 0.75).clamp(f32::MIN.into(), 0.5);
    let sum = again
        .hard_swish()
        .add("sum", [pooled, mean.silu(), norm.clone()])
        .mul("gated", gate)
        .tanh()
        .add("plus", [norm]);
    let [excite, gate] = ["excite", "excite2"].map(|name| sum.clone().global_avg_pool().dense(name, 6));
    let gate = gate.reshape([1, 1, 6]).sigmoid();
    let sum = excite.hard_sigmoid().mul("excited", sum).mul("excited2", gate);
    let sum = sum.group_norm("gn", 3).group_norm_with("in", 6, |n| n.epsilon(1e-3)).layer_norm("ln");
    let sum = sum.layer_norm_with("ln2", |n| n.over_examples(true).epsilon(1e-6));
    let sum = sum.clone().conv2d("narrow", 4, [1, 1], |c| c).concat("both", [sum]);
    let squeezed =
        sum.clone().global_avg_pool().reshape([1, 1, 10]).conv2d("squeeze", 4, [1, 1], |c| c).relu6();
    let features = squeezed.flatten().dropout(0.3).dense_with("fc1", 5, |d| d.bias(false));
    let joined = sum.flatten().batch_norm("bn2").dense("fc2", 5).hard_sigmoid().add("joined", [features]);
    joined.layer_norm("ln4").dense("fc3", 4).log_softmax().softmax().build().unwrap()
}

/// Norms without scale and shift, for which ONNX has constants: they are read as norms with parameters of 1 and 0.
fn plain_norms() -> Model {
    let image = Model::input([5, 4, 6]).group_norm_with("gn", 3, |n| n.affine(false)).tanh();
    let image =
        image.group_norm_with("in", 6, |n| n.affine(false)).layer_norm_with("ln", |n| n.affine(false));
    let image = image.sigmoid().layer_norm_with("all", |n| n.affine(false).over_examples(true));
    let features = image.flatten().dense("fc", 7).layer_norm_with("features", |n| n.affine(false));
    features.dense("fc2", 3).build().unwrap()
}

/// A model with the layers that change the size of images.
fn sizes() -> Model {
    let image = Model::input([7, 6, 4]);
    // The evaluator of ONNX 1.22 computes groups of one channel alone, and those without the bias.
    let up = image.clone().conv_transpose2d("up", 4, [3, 3], |c| {
        let padding = Padding::Explicit { top: 1, bottom: 1, left: 0, right: 2 };
        c.stride([2, 2]).padding(padding).output_padding([1, 0]).groups(4).bias(false)
    });
    let same = image
        .clone()
        .conv_transpose2d("same", 4, [2, 3], |c| c.stride([3, 2]).padding(Padding::Same).bias(false))
        .upsample_to(Upsampling::BilinearCorners, [14, 11]);
    let near = image.clone().upsample(Upsampling::Nearest, [2.0, 11.0 / 6.0]);
    let linear = image.clone().upsample(Upsampling::Bilinear, [2.0, 1.875]);
    let counted = image
        .avg_pool2d_with([3, 3], |p| {
            let padding = Padding::Explicit { top: 1, bottom: 1, left: 1, right: 1 };
            p.stride([1, 1]).padding(padding).count_padding(true)
        })
        .upsample_to(Upsampling::Nearest, [14, 11]);
    let pooled = up
        .add("sum", [same, near, linear, counted])
        .max_pool2d_with([3, 2], |p| p.stride([2, 2]).round_up(true))
        .avg_pool2d_with([2, 3], |p| p.stride([2, 2]).round_up(true))
        .adaptive_avg_pool2d([2, 3]);
    let mean = pooled.clone().adaptive_avg_pool2d([1, 1]).upsample_to(Upsampling::Nearest, [2, 3]);
    let largest = pooled.clone().adaptive_max_pool2d([2, 1]).upsample(Upsampling::Bilinear, [1.0, 3.0]);
    pooled.add("pooled", [mean, largest]).build().unwrap()
}

/// A model with layers across channels.
fn channels() -> Model {
    let image = Model::input([4, 3, 6]).local_response_norm(5, |n| n.alpha(0.7).beta(0.5).k(1.5));
    let image = image.conv2d("conv", 8, [1, 1], |c| c.groups(2)).channel_shuffle(2).tanh();
    image.channel_shuffle(4).local_response_norm(1, |n| n).build().unwrap()
}

/// Values that are not those of an initializer, with positive variances.
fn values(model: &Model) -> Vec<(String, Vec<f32>)> {
    let wave = |index: usize, seed: usize| ((1 + index * 7 + seed * 31) as f32 * 0.7).sin() * 0.4;
    let all = model.parameters().iter().enumerate().map(|(seed, parameter)| {
        let shift = if parameter.path.ends_with("running_var") { 0.7 } else { 0.0 };
        let values = (0..parameter.shape.elements()).map(|index| wave(index, seed) + shift);
        (parameter.path.clone(), values.collect())
    });
    all.collect()
}

#[test]
fn written_networks_are_read_bit_for_bit() {
    let digits = read_onnx(stored("digits_cnn.train.onnx")).unwrap();
    let resnet = read_onnx(stored("mini_resnet.dynamo.onnx")).unwrap();
    let unet = Model::unet_small(&[16, 12, 3], 2).unwrap();
    let ours =
        [every_layer(), sizes(), channels(), unet, Model::cifar().unwrap(), Model::resnet20().unwrap()]
            .map(|model| (values(&model), model));
    let theirs = [digits, resnet].map(|read| (read.parameters, read.model));
    for (number, (parameters, model)) in ours.into_iter().chain(theirs).enumerate() {
        let file = temporary(&format!("round-{number}.onnx"));
        write_onnx(&file, &model, &parameters, &[]).unwrap();
        let read = read_onnx(&file).unwrap();
        let bits = |all: &[(String, Vec<f32>)]| -> Vec<(String, Vec<u32>)> {
            all.iter().map(|(path, v)| (path.clone(), v.iter().map(|x| x.to_bits()).collect())).collect()
        };
        let (mut written, mut read_bits) = (bits(&parameters), bits(&read.parameters));
        written.sort();
        read_bits.sort();
        assert!(written == read_bits, "network {number}");
        let example: usize = model.example_shape().iter().product();
        let inputs: Vec<f32> = (0..3 * example).map(|i| (i as f32 * 1.3).sin()).collect();
        let before = Predictor::new(gpu(), model, &parameters, 3).unwrap().predict(&inputs).unwrap();
        let after = predictor(&read, 3).predict(&inputs).unwrap();
        assert!(share_of_largest(&after, &before) < 1e-6, "network {number}");
        std::fs::remove_file(file).unwrap();
    }
}

/// ONNX's own checker accepts exports, and its reference evaluator gives the outputs of this crate.
#[test]
fn exports_are_valid_and_give_the_same_outputs_elsewhere() {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/onnx-cases/python");
    if !packages.join("COMPLETE").exists() {
        return skip("ONNX networks: exports", "pip cannot install onnx (scripts/fetch-onnx-cases.sh)");
    }
    let models = [
        ("every_layer", every_layer()),
        ("sizes", sizes()),
        ("channels", channels()),
        ("unet-small", Model::unet_small(&[16, 12, 3], 2).unwrap()),
        ("plain_norms", plain_norms()),
        ("digits", Model::digits().unwrap()),
        ("resnet20", Model::resnet20().unwrap()),
        ("mobilenet-small", Model::mobilenet_small().unwrap()),
    ];
    for (name, model) in models {
        let parameters = values(&model);
        let [h, w, c] = *model.example_shape() else { panic!("{name}: no images") };
        let inputs: Vec<f32> = (0..2 * h * w * c).map(|i| (i as f32 * 1.3).sin()).collect();
        let outputs = Predictor::new(gpu(), model.clone(), &parameters, 2).unwrap().predict(&inputs).unwrap();
        // The reference evaluator takes and returns NCHW.
        let to_nchw = |values: &[f32], [h, w, c]: [usize; 3]| -> Vec<f32> {
            let at = |i: usize| i / (h * w * c) * h * w * c + i % (h * w) * c + i / (h * w) % c;
            (0..values.len()).map(|i| values[at(i)]).collect()
        };
        let nchw = to_nchw(&inputs, [h, w, c]);
        let outputs = match *model.output() {
            [h, w, c] => to_nchw(&outputs, [h, w, c]),
            _ => outputs,
        };
        let mask = Mask::from_frozen((0..parameters[0].1.len()).map(|i| i % 3 == 0));
        let file = temporary(&format!("{name}.onnx"));
        write_onnx(&file, &model, &parameters, &[(parameters[0].0.clone(), mask.clone())]).unwrap();
        let lines = |values: &[f32]| values.iter().map(|x| format!("{x:e}")).collect::<Vec<_>>().join("\n");
        let (given, got) = (temporary(&format!("{name}.in")), temporary(&format!("{name}.out")));
        std::fs::write(&given, lines(&nchw)).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/evaluate.py");
        let shape = format!("2,{c},{h},{w}");
        let run = Command::new("python3")
            .args([&script, &file, &given])
            .arg(&shape)
            .arg(&got)
            .env("PYTHONPATH", &packages)
            .output()
            .unwrap();
        assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
        let theirs = std::fs::read_to_string(&got).unwrap();
        let mut theirs = theirs.lines();
        let masks = theirs.next().unwrap();
        assert_eq!(masks, format!("{}", mask.frozen_count()), "{name}");
        let theirs: Vec<f32> = theirs.map(|line| line.parse().unwrap()).collect();
        let error = share_of_largest(&theirs, &outputs);
        assert!(error <= 1e-5, "{name}: {error:e}");
        say(&format!(
            "ONNX export of {name}: accepted, largest difference {error:.1e} of the largest output"
        ));
        [file, given, got].iter().for_each(|file| std::fs::remove_file(file).unwrap());
    }
}

/// The elements of an array whose images are NCHW, in the order of this crate.
fn nhwc(array: &Array) -> Vec<f32> {
    let values = array.clone().into_f32().unwrap();
    let [n, c, h, w] = *array.shape else { return values };
    let at = |i: usize| {
        let (image, pixel, channel) = (i / (h * w * c), i / c % (h * w), i % c);
        image * c * h * w + channel * h * w + pixel
    };
    (0..n * c * h * w).map(|i| values[at(i)]).collect()
}

/// Networks with what PyTorch's exporters do not write: other forms of operators give the outputs of ONNX's reference
/// evaluator.
#[test]
fn operators_of_other_exporters_give_the_outputs_of_the_evaluator() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = root.join("target/onnx-cases/python");
    if !packages.join("COMPLETE").exists() {
        return skip("ONNX networks: operators", "pip cannot install onnx (scripts/fetch-onnx-cases.sh)");
    }
    let folder = temporary("networks");
    std::fs::create_dir_all(&folder).unwrap();
    let run = Command::new("python3")
        .args([&root.join("tests/onnx/networks.py"), &folder])
        .env("PYTHONPATH", &packages)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let networks = [
        "biases",
        "scales",
        "shapes",
        "windows",
        "pools",
        "transposed",
        "resized",
        "upsampled",
        "joins",
        "gates",
        "norms",
        "reshaped",
        "channels",
    ];
    for (name, shared) in networks.into_iter().map(|name| (name, 0)).chain([("shared", 1)]) {
        let file = |what: &str| folder.join(format!("{name}.{what}"));
        let read = read_onnx(file("onnx")).unwrap();
        let [x, y] = ["x.npy", "y.npy"].map(|what| nhwc(&npy::read(file(what)).unwrap()));
        let got = predictor(&read, 2).predict(&x).unwrap();
        let worst = share_of_largest(&got, &y);
        assert!(worst <= 1e-5, "{name}: {worst:e}");
        let repeated = read.model.layers().iter().filter(|layer| layer.repeats().is_some()).count();
        assert_eq!(repeated, shared, "{name}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// The light models of ONNX's backend tests, with a part of the error for those that cannot be imported.
const LIGHT: [(&str, &str); 9] = [
    ("squeezenet", ""),
    ("resnet50", ""),
    ("inception_v2", ""),
    ("densenet121", ""),
    ("vgg19", ""),
    ("bvlc_alexnet", ""),
    ("inception_v1", ""),
    ("zfnet512", ""),
    ("shufflenet", ""),
];

/// Packages with ONNX's backend tests; `None`, and a visible skip, if they cannot be installed.
fn light_models(what: &str) -> Option<PathBuf> {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/onnx-cases/python");
    if packages.join("COMPLETE").exists() {
        return Some(packages);
    }
    skip(what, "pip cannot install onnx (scripts/fetch-onnx-cases.sh)");
    None
}

#[test]
fn light_models_give_their_stored_outputs() {
    let Some(packages) = light_models("ONNX networks: light models") else { return };
    let file = |name: &str| packages.join("onnx/backend/test/data/light").join(format!("light_{name}"));
    // As the backend tests make them.
    let count = 3 * 224 * 224;
    let values = (0..count).map(|i| (i as f64 / count as f64) as f32).collect();
    let input = nhwc(&Array { shape: vec![1, 3, 224, 224], elements: Elements::F32(values) });
    for (name, missing) in LIGHT {
        let read = read_onnx(file(&format!("{name}.onnx")));
        if !missing.is_empty() {
            let error = read.unwrap_err().to_string();
            assert!(error.contains(missing), "{name}: {error}");
            continue;
        }
        let stored = std::fs::read(file(&format!("{name}_output_0.pb"))).unwrap();
        let expected: Vec<f32> =
            tensor(&stored).unwrap().unwrap().data.into_iter().map(|x| x as f32).collect();
        let read = read.unwrap();
        let predictor = match Predictor::new(gpu(), read.model, &read.parameters, 1) {
            // Their first dense layers have more weights than a binding of a software adapter.
            Err(Error::LimitExceeded { what, needed, .. })
                if ["vgg19", "bvlc_alexnet", "zfnet512"].contains(&name)
                    && what.ends_with("(one binding)") =>
            {
                skip(
                    &format!("ONNX light model {name}"),
                    &format!("the adapter has no binding of {needed} bytes"),
                );
                continue;
            }
            other => other.unwrap(),
        };
        let got = predictor.predict(&input).unwrap();
        assert_eq!(got.len(), 1000, "{name}");
        let error = share_of_largest(&got, &expected);
        assert!(error <= 1e-5, "{name}: {error:e}");
        say(&format!("ONNX light model {name}: largest difference {error:.1e} of the largest output"));
    }
}

/// With random weights: those of the light models are all equal. Of the others, the evaluator of ONNX 1.22 gives other
/// outputs than onnxruntime and this crate.
#[test]
fn light_model_with_random_weights_gives_the_outputs_of_the_evaluator() {
    let Some(packages) = light_models("ONNX networks: light model with random weights") else { return };
    let folder = temporary("light");
    std::fs::create_dir_all(&folder).unwrap();
    let run = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/light.py"))
        .arg(packages.join("onnx/backend/test/data/light/light_squeezenet.onnx"))
        .arg("64")
        .arg(&folder)
        .env("PYTHONPATH", &packages)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let [x, y] = ["x.npy", "y.npy"].map(|file| npy::read(folder.join(file)).unwrap());
    let read = read_onnx(folder.join("network.onnx")).unwrap();
    let got = predictor(&read, 1).predict(&nhwc(&x)).unwrap();
    let error = share_of_largest(&got, &y.into_f32().unwrap());
    assert!(error <= 1e-5, "{error:e}");
    say(&format!(
        "ONNX light model with random weights: largest difference {error:.1e} of the largest output"
    ));
    std::fs::remove_dir_all(folder).unwrap();
}

/// Bytes of a message's field: text or a message.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    [&bytes, value].concat()
}

/// A field with an integer.
fn integer(number: u16, mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mut part in [u64::from(number) << 3, std::mem::take(&mut value)] {
        while part >= 0x80 {
            bytes.push(part as u8 | 0x80);
            part >>= 7;
        }
        bytes.push(part as u8);
    }
    bytes
}

/// An attribute with a list of integers, or one integer.
fn attribute(name: &str, values: &[i64]) -> Vec<u8> {
    let (number, kind) = if values.len() == 1 { (3, 2) } else { (8, 7) };
    let values = values.iter().flat_map(|&value| integer(number, value as u64));
    let bytes = field(1, name.as_bytes()).into_iter().chain(values).chain(integer(20, kind));
    field(5, &bytes.collect::<Vec<_>>())
}

fn node(op: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    node_with(op, inputs, output, &[])
}

fn node_with(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, &[i64])]) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
    node.extend([field(2, output.as_bytes()), field(3, output.as_bytes()), field(4, op.as_bytes())].concat());
    node.extend(attributes.iter().flat_map(|(name, values)| attribute(name, values)));
    field(1, &node)
}

/// A file with the input `x [n, 2, 4, 4]`, these nodes, and the output `y`.
fn file_of(nodes: &[Vec<u8>]) -> Vec<u8> {
    file_with([1, 2, 4, 4], nodes)
}

fn file_with(shape: [u64; 4], nodes: &[Vec<u8>]) -> Vec<u8> {
    let extents: Vec<u8> = shape.iter().flat_map(|&extent| field(1, &integer(1, extent))).collect();
    let shape = field(2, &extents);
    let kind = field(2, &field(1, &[&[8, 1], shape.as_slice()].concat()));
    let x = field(11, &[field(1, b"x"), kind].concat());
    let y = field(12, &field(1, b"y"));
    let graph = [nodes.concat(), x, y].concat();
    [&[8, 9], field(7, &graph).as_slice(), &field(8, &[16, 20])].concat()
}

#[test]
fn files_that_do_not_fit_are_named_errors() {
    let path = temporary("refused.onnx");
    let refused = |bytes: &[u8], parts: &[&str]| {
        std::fs::write(&path, bytes).unwrap();
        let error = read_onnx(&path).unwrap_err();
        assert!(matches!(error, Error::Data { .. }), "{error}");
        let message = error.to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message} lacks one of {parts:?}");
    };
    let relu = node("Relu", &["x"], "y");
    std::fs::write(&path, file_of(std::slice::from_ref(&relu))).unwrap();
    let read = read_onnx(&path).unwrap();
    assert_eq!((read.model.example_shape(), read.model.outputs()), (&[4, 4, 2][..], &[Source::Layer(0)][..]));

    let unknown = [node("LSTM", &["x"], "a"), node("Einsum", &["a"], "b"), node("LSTM", &["b"], "y")];
    refused(&file_of(&unknown), &["not supported", "Einsum (1)", "LSTM (2)"]);
    refused(
        &file_of(&[node("Relu", &["later"], "y"), node("Relu", &["y"], "later")]),
        &["\"y\" (Relu)", "later"],
    );
    refused(&file_of(&[relu.clone(), relu]), &["one definition of \"y\""]);
    refused(&file_of(&[node("Relu", &["x"], "other")]), &["output \"y\""]);
    refused(&file_of(&[node("Relu", &[], "y")]), &["operand 0", "none"]);
    refused(&file_of(&[node("Conv", &["x", "x"], "y")]), &["(Conv)", "operand 1 to be a constant"]);
    refused(&file_of(&[node("MatMul", &["x", "x"], "y")]), &["(MatMul)", "features [n, in]"]);
    refused(&file_of(&[node("Gather", &["x", "x"], "y")]), &["(Gather)", "shapes only"]);
    refused(&file_of(&[node("GroupNormalization", &["x"], "y")]), &["version 21"]);
    refused(&file_of(&[node("Transpose", &["x"], "y")]), &["(Transpose)", "NCHW to NHWC"]);
    refused(&file_of(&[node("InstanceNormalization", &["x"], "y")]), &["operand 1", "none"]);
    refused(
        &file_of(&[node("Relu", &["x"], "a\u{1b}[2J"), node("Relu", &["a"], "y")]),
        &["expected operand 0"],
    );
    refused(b"", &["not a complete ONNX file"]);
    refused(&std::fs::read(stored("digits_cnn.f32.safetensors")).unwrap(), &["model"]);

    // Constants for each channel, and tensors that are larger than the file.
    let scalar = |op: &str| node(op, &["x", "c"], "y");
    let filled = |shape: &[i64]| -> Vec<Vec<u8>> {
        let dims: Vec<u8> = shape.iter().flat_map(|&extent| integer(7, extent as u64)).collect();
        let tensor = [integer(1, shape.len() as u64), integer(2, 7), dims].concat();
        let value = [field(1, b"value"), field(5, &tensor), integer(20, 4)].concat();
        let constant = [field(2, b"s"), field(3, b"s"), field(4, b"Constant"), field(5, &value)].concat();
        vec![field(1, &constant), node("ConstantOfShape", &["s"], "c")]
    };
    let with = |shape: &[i64], last: Vec<u8>| file_of(&[filled(shape), vec![last]].concat());
    std::fs::write(&path, with(&[2, 1, 1], scalar("Mul"))).unwrap();
    let read = read_onnx(&path).unwrap();
    assert_eq!(read.parameters, [("y.kernel".to_owned(), vec![0.0; 2])]);
    std::fs::write(&path, with(&[], scalar("Add"))).unwrap();
    let read = read_onnx(&path).unwrap();
    let [kernel, bias] = [vec![1.0; 2], vec![0.0; 2]];
    assert_eq!(read.parameters, [("y.kernel".to_owned(), kernel), ("y.bias".to_owned(), bias)]);
    refused(&with(&[3, 1, 1], scalar("Mul")), &["(Mul)", "[2, 1, 1]", "[3, 1, 1]"]);
    refused(&with(&[1 << 30, 1 << 30], scalar("Mul")), &["(Mul)", "at most 268435456 equal elements"]);
    refused(&with(&[-1], scalar("Mul")), &["(ConstantOfShape)", "extents of 0 or more, got -1"]);

    let resize = |attributes: &[(&str, &[i64])]| {
        let constant = node_with("Constant", &[], "s", &[("value_ints", &[1, 2, 3, 5])]);
        file_of(&[constant, node_with("Resize", &["x", "", "", "s"], "y", attributes)])
    };
    refused(&resize(&[]), &["(Resize)", "asymmetric and floor", "[4, 4] to [3, 5]"]);
    refused(&resize(&[("antialias", &[1])]), &["antialias"]);
    refused(&resize(&[("axes", &[2, 3])]), &["2 axes", "4 sizes"]);
    refused(&file_of(&[node("Resize", &["x"], "y")]), &["scales or sizes", "0 scales and 0 sizes"]);
    refused(&file_of(&[node("Resize", &["x", "", "x"], "y")]), &["operand 2 to be a constant"]);
    for sizes in [[1, 2, 0, 5], [1, 2, i64::MIN, 5], [1, 2, 1 << 40, 5], [1, 3, 8, 8]] {
        let constant = node_with("Constant", &[], "s", &[("value_ints", &sizes)]);
        refused(&file_of(&[constant, node("Resize", &["x", "", "", "s"], "y")]), &["(Resize)", "expected"]);
    }
    for (name, value) in [("strides", i64::MAX), ("dilations", i64::MAX), ("output_shape", i64::MAX)] {
        // A constant of integers is no weight, so that the attributes are read before.
        let constant = node_with("Constant", &[], "k", &[("value_ints", &[1, 2])]);
        let transposed = node_with("ConvTranspose", &["x", "k"], "y", &[(name, &[value, value])]);
        refused(&file_of(&[constant, transposed]), &["(ConvTranspose)"]);
    }
    refused(&file_of(&[node("Slice", &["x", "x", "x"], "y")]), &["(Slice)", "shapes only"]);

    // Products and sums of the numbers of a file would overflow.
    refused(
        &file_with([1, 1 << 40, 1 << 40, 1 << 40], &[node("Flatten", &["x"], "y")]),
        &["input \"x\"", "shape"],
    );
    for (kernel, pads, dilation) in
        [(2, i64::MAX, 1), (2, i64::MAX / 2, 1), (i64::MAX, 0, 1), (2, 0, i64::MAX), (i64::MAX, 1, i64::MAX)]
    {
        let attributes: [(&str, &[i64]); 4] = [
            ("kernel_shape", &[kernel, kernel]),
            ("pads", &[pads, 0, pads, 0]),
            ("dilations", &[dilation, 1]),
            ("ceil_mode", &[1]),
        ];
        refused(&file_of(&[node_with("MaxPool", &["x"], "y", &attributes)]), &["(MaxPool)"]);
    }
    // Many nodes of one name are read in about linear time.
    let relu = |i: usize| {
        let input = if i == 0 { "x".to_owned() } else { format!("r{}", i - 1) };
        let output = format!("r{i}");
        let parts = [(1, input.as_str()), (2, output.as_str()), (3, "same"), (4, "Relu")];
        field(
            1,
            &parts.into_iter().flat_map(|(number, text)| field(number, text.as_bytes())).collect::<Vec<_>>(),
        )
    };
    let mut many: Vec<_> = (0..60_000).map(relu).collect();
    many.push(node("Add", &["r59999", "r59999"], "y"));
    let begun = std::time::Instant::now();
    std::fs::write(&path, file_of(&many)).unwrap();
    assert_eq!(read_onnx(&path).unwrap().model.layers().len(), 60_001);
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());

    let whole = std::fs::read(stored("digits_cnn.train.onnx")).unwrap();
    for cut in (1..whole.len()).step_by(1009) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(matches!(read_onnx(&path), Err(Error::Data { .. })), "cut to {cut}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn exports_that_cannot_be_are_named_errors() {
    let file = temporary("no-export.onnx");
    let model =
        Model::input([4, 4, 2]).flatten().reshape([2, 2, 8]).conv2d("c", 1, [1, 1], |c| c).build().unwrap();
    let error = write_onnx(&file, &model, &values(&model), &[]).unwrap_err().to_string();
    assert!(error.contains("reshape"), "{error}");
    let none: [(&str, Vec<f32>); 0] = [];
    for (builder, part) in [
        (Model::input([5, 4, 2]).adaptive_avg_pool2d([3, 2]), "no other adaptive pooling"),
        (Model::input([10, 4, 2]).upsample(Upsampling::Nearest, [0.69999999999, 1.0]), "as f32"),
        (Model::input([5, 4, 6]).local_response_norm(4, |n| n), "an odd number of channels"),
    ] {
        let error = write_onnx(&file, &builder.build().unwrap(), &none, &[]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let digits = Model::digits().unwrap();
    let mut parameters = values(&digits);
    let none: [(String, Mask); 0] = [];
    let refused = |parameters: &[(String, Vec<f32>)], masks: &[(String, Mask)], part: &str| {
        let error = write_onnx(&file, &digits, parameters, masks).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(&parameters[1..], &none, "values of every parameter");
    refused(&parameters, &[("conv9.kernel".to_owned(), Mask::all(3).unwrap())], "conv9.kernel");
    refused(&parameters, &[("conv1.bias".to_owned(), Mask::all(3).unwrap())], "conv1.bias");
    parameters[0].1.pop();
    refused(&parameters, &none, "conv1.kernel");
    assert!(!file.exists());
}

/// Damaged files are refused or give a model; none panics, and none takes more memory than the file has.
#[test]
fn soak_onnx_files() {
    let path = temporary("soak.onnx");
    let all = ["digits_cnn.train.onnx", "mini_resnet.dynamo.onnx", "mini_resnet.eval.onnx"]
        .map(|name| std::fs::read(stored(name)).unwrap());
    // Most bytes are weights; the graph comes first, or behind the weights.
    soak("ONNX files", 4, |random| {
        let bytes = &all[random.below(3)];
        let mut damaged = damage(random, bytes);
        if random.below(2) == 0 {
            let head = random.below(4000).min(bytes.len());
            damaged = [damage(random, &bytes[..head.max(1)]), bytes[head..].to_vec()].concat();
        }
        std::fs::write(&path, damaged).unwrap();
        Case::from(read_onnx(&path))
    });
    std::fs::remove_file(path).unwrap();
}
