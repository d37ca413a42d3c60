//! Compares predefined models with the state dicts of torchvision's models of the same names. The rules here are
//! independent of the models: they follow the modules of torchvision.

use crate::support::device::gpu;
use frazil::interop::TorchStateDict;
use frazil::low_level::ParameterKind;
use frazil::{Loss, Model, Sgd, Trainer, TrainerOptions};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use std::collections::BTreeMap;

/// Names and shapes of a state dict.
#[derive(Default)]
struct StateDict(Vec<(String, Vec<usize>)>);

impl StateDict {
    /// `nn.Conv2d(c_in, c_out, kernel, groups, bias)`.
    fn conv(&mut self, name: &str, c_in: usize, c_out: usize, kernel: usize, groups: usize, bias: bool) {
        self.0.push((format!("{name}.weight"), vec![c_out, c_in / groups, kernel, kernel]));
        if bias {
            self.0.push((format!("{name}.bias"), vec![c_out]));
        }
    }

    /// `nn.BatchNorm2d(channels)`.
    fn norm(&mut self, name: &str, channels: usize) {
        for field in ["weight", "bias", "running_mean", "running_var"] {
            self.0.push((format!("{name}.{field}"), vec![channels]));
        }
        self.0.push((format!("{name}.num_batches_tracked"), vec![]));
    }

    /// `nn.Linear(inputs, outputs)`.
    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.0.push((format!("{name}.weight"), vec![outputs, inputs]));
        self.0.push((format!("{name}.bias"), vec![outputs]));
    }

    /// `Conv2dNormActivation(c_in, c_out, kernel, groups)`, a `Sequential`.
    fn conv_norm(&mut self, name: &str, c_in: usize, c_out: usize, kernel: usize, groups: usize) {
        self.conv(&format!("{name}.0"), c_in, c_out, kernel, groups, false);
        self.norm(&format!("{name}.1"), c_out);
    }
}

/// `ResNet(BasicBlock or Bottleneck, layers)`.
fn resnet(layers: [usize; 4], bottleneck: bool) -> StateDict {
    let mut dict = StateDict::default();
    dict.conv("conv1", 3, 64, 7, 1, false);
    dict.norm("bn1", 64);
    let (mut inplanes, expansion) = (64, if bottleneck { 4 } else { 1 });
    for (stage, (blocks, planes)) in layers.into_iter().zip([64, 128, 256, 512]).enumerate() {
        for block in 0..blocks {
            let name = |inner: &str| format!("layer{}.{block}.{inner}", stage + 1);
            let sizes: &[(usize, usize, usize)] = if bottleneck {
                &[(inplanes, planes, 1), (planes, planes, 3), (planes, planes * 4, 1)]
            } else {
                &[(inplanes, planes, 3), (planes, planes, 3)]
            };
            for (number, &(c_in, c_out, kernel)) in (1..).zip(sizes) {
                dict.conv(&name(&format!("conv{number}")), c_in, c_out, kernel, 1, false);
                dict.norm(&name(&format!("bn{number}")), c_out);
            }
            if block == 0 && (stage > 0 || inplanes != planes * expansion) {
                dict.conv_norm(&name("downsample"), inplanes, planes * expansion, 1, 1);
            }
            inplanes = planes * expansion;
        }
    }
    dict.linear("fc", 512 * expansion, 1000);
    dict
}

/// `vgg(cfg, batch_norm)`, where `cfg` is torchvision's list: `A` for VGG-11, `D` for VGG-16; 0 is `"M"`.
fn vgg(cfg: &[usize], batch_norm: bool) -> StateDict {
    let mut dict = StateDict::default();
    let (mut c_in, mut module) = (3, 0);
    for &v in cfg {
        if v == 0 {
            module += 1;
            continue;
        }
        dict.conv(&format!("features.{module}"), c_in, v, 3, 1, true);
        if batch_norm {
            dict.norm(&format!("features.{}", module + 1), v);
        }
        module += if batch_norm { 3 } else { 2 };
        c_in = v;
    }
    dict.linear("classifier.0", 512 * 7 * 7, 4096);
    dict.linear("classifier.3", 4096, 4096);
    dict.linear("classifier.6", 4096, 1000);
    dict
}

const A: [usize; 13] = [64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0];
const D: [usize; 18] = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0];

fn mobilenet_v2() -> StateDict {
    let mut dict = StateDict::default();
    dict.conv_norm("features.0", 3, 32, 3, 1);
    let (mut inp, mut module) = (32, 1);
    for [t, c, n] in [[1, 16, 1], [6, 24, 2], [6, 32, 3], [6, 64, 4], [6, 96, 3], [6, 160, 3], [6, 320, 1]] {
        for _ in 0..n {
            let (hidden, mut inner) = (inp * t, 0);
            let name = |inner: usize| format!("features.{module}.conv.{inner}");
            if t != 1 {
                dict.conv_norm(&name(0), inp, hidden, 1, 1);
                inner = 1;
            }
            dict.conv_norm(&name(inner), hidden, hidden, 3, hidden);
            dict.conv(&name(inner + 1), hidden, c, 1, 1, false);
            dict.norm(&name(inner + 2), c);
            (inp, module) = (c, module + 1);
        }
    }
    dict.conv_norm("features.18", 320, 1280, 1, 1);
    dict.linear("classifier.1", 1280, 1000);
    dict
}

fn efficientnet_b0() -> StateDict {
    let mut dict = StateDict::default();
    dict.conv_norm("features.0", 3, 32, 3, 1);
    let mut input = 32;
    // `MBConvConfig(expand_ratio, kernel, stride, input_channels, out_channels, num_layers)`, without the stride.
    let settings = [
        [1, 3, 16, 1],
        [6, 3, 24, 2],
        [6, 5, 40, 2],
        [6, 3, 80, 3],
        [6, 5, 112, 3],
        [6, 5, 192, 4],
        [6, 3, 320, 1],
    ];
    for (stage, [expand, kernel, out, layers]) in (1..).zip(settings) {
        for layer in 0..layers {
            let (expanded, mut inner) = (input * expand, 0);
            let name = |inner: usize| format!("features.{stage}.{layer}.block.{inner}");
            if expanded != input {
                dict.conv_norm(&name(0), input, expanded, 1, 1);
                inner = 1;
            }
            dict.conv_norm(&name(inner), expanded, expanded, kernel, expanded);
            let squeeze = std::cmp::max(1, input / 4);
            dict.conv(&format!("{}.fc1", name(inner + 1)), expanded, squeeze, 1, 1, true);
            dict.conv(&format!("{}.fc2", name(inner + 1)), squeeze, expanded, 1, 1, true);
            dict.conv_norm(&name(inner + 2), expanded, out, 1, 1);
            input = out;
        }
    }
    dict.conv_norm("features.8", 320, 1280, 1, 1);
    dict.linear("classifier.1", 1280, 1000);
    dict
}

/// Names, state dicts and published numbers of parameters.
fn torchvision() -> Vec<(&'static str, StateDict, usize)> {
    vec![
        ("resnet18", resnet([2, 2, 2, 2], false), 11_689_512),
        ("resnet34", resnet([3, 4, 6, 3], false), 21_797_672),
        ("resnet50", resnet([3, 4, 6, 3], true), 25_557_032),
        ("vgg11", vgg(&A, false), 132_863_336),
        ("vgg11_bn", vgg(&A, true), 132_868_840),
        ("vgg16", vgg(&D, false), 138_357_544),
        ("vgg16_bn", vgg(&D, true), 138_365_992),
        ("mobilenet_v2", mobilenet_v2(), 3_504_872),
        ("efficientnet_b0", efficientnet_b0(), 5_288_548),
    ]
}

#[test]
fn predefined_models_have_the_state_dicts_of_torchvision() {
    for (name, dict, published) in torchvision() {
        let is_trained = |name: &str| !name.contains("running_") && !name.contains("num_batches");
        let trained = dict.0.iter().filter(|(name, _)| is_trained(name));
        let counted: usize = trained.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(counted, published, "{name}: the rules of this test");
        let model = Model::named(name).unwrap();
        let trained = model.parameters().iter().filter(|p| p.kind == ParameterKind::Trained);
        assert_eq!(trained.map(|p| p.shape.elements()).sum::<usize>(), published, "{name}");
        let names = TorchStateDict::new(&model).unwrap();
        let mut entries: Vec<_> = names.entries().map(|(_, name, shape)| (name.to_owned(), shape)).collect();
        let mut expected: Vec<_> =
            dict.0.into_iter().filter(|(name, _)| !name.contains("num_batches")).collect();
        entries.sort();
        expected.sort();
        assert_eq!(entries, expected, "{name}");
    }
}

/// A state dict in torchvision's names goes through a trainer and comes back with the same bits.
#[test]
fn state_dicts_of_torchvision_come_back_bit_for_bit() {
    let folder = std::env::temp_dir().join(format!("frazil-zoo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let [theirs, ours] = ["theirs", "ours"].map(|name| folder.join(format!("{name}.safetensors")));
    for (name, dict, _) in torchvision() {
        if !["resnet18", "mobilenet_v2", "efficientnet_b0"].contains(&name) {
            continue;
        }
        // Counters of the elements, as numbers from 0.5 to 1, which are the same nowhere near each other.
        let mut bits = 0u32;
        let mut next = || {
            bits = (bits + 1) % (1 << 23);
            (0x3f00_0000 + bits).to_le_bytes()
        };
        let tensors: BTreeMap<_, _> = dict
            .0
            .iter()
            .map(|(name, shape)| match name.ends_with("num_batches_tracked") {
                true => (name, (Dtype::I64, shape, vec![0; 8])),
                false => {
                    let elements = shape.iter().product();
                    (name, (Dtype::F32, shape, (0..elements).flat_map(|_: usize| next()).collect()))
                }
            })
            .collect();
        let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name.as_str(), TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
        });
        std::fs::write(&theirs, serialize(views, None).unwrap()).unwrap();

        // Weights do not depend on the size of the images.
        let model = Model::named_for(name, &[32, 32, 3], 1000).unwrap();
        let names = TorchStateDict::new(&model).unwrap();
        let weights = names.read(&theirs).unwrap();
        assert_eq!((weights.missing, weights.unused), (vec![], vec![]), "{name}");
        let options = TrainerOptions::batch(2);
        let mut trainer =
            Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options).unwrap();
        trainer.set_parameters(&weights.parameters).unwrap();
        names.write(&ours, &trainer).unwrap();
        let bytes = std::fs::read(&ours).unwrap();
        let written = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(written.len(), tensors.len(), "{name}");
        for (tensor, (dtype, shape, bytes)) in &tensors {
            let got = written.tensor(tensor).unwrap();
            assert_eq!((got.dtype(), got.shape()), (*dtype, shape.as_slice()), "{name}: {tensor}");
            assert!(got.data() == bytes.as_slice(), "{name}: {tensor}");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}
