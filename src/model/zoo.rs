//! Predefined models.

use super::{Model, ModelBuilder};
use crate::error::{Error, Result};
use crate::layer::{Conv2dLayer, Init};
use crate::shape::Padding::{self, Same};

impl Model {
    /// The names that [`Model::named`] accepts.
    pub const NAMES: [&'static str; 6] =
        ["digits", "lenet28", "cifar", "resnet20", "resnet50", "mobilenet-small"];

    /// Builds the predefined model with this name; `-` in a name is `_` in the name of the function.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an unknown name, listing [`Model::NAMES`].
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "digits" => Model::digits(),
            "lenet28" => Model::lenet28(),
            "cifar" => Model::cifar(),
            "resnet20" => Model::resnet20(),
            "resnet50" => Model::resnet50(),
            "mobilenet-small" => Model::mobilenet_small(),
            _ => Err(unknown(name)),
        }
    }

    /// Builds the predefined model with this name for images of another size or number of channels, `example`
    /// = `[h, w, c]`, and for another number of classes.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an unknown name, and for no classes; [`Error::ShapeMismatch`] for
    /// examples that are no images, or that are too small for a layer.
    pub fn named_for(name: &str, example: &[usize], classes: usize) -> Result<Self> {
        match name {
            "digits" => digits(example, classes),
            "lenet28" => lenet28(example, classes),
            "cifar" => cifar(example, classes),
            "resnet20" => resnet20(example, classes),
            "resnet50" => Model::bottleneck_resnet(example, classes, 64, [3, 4, 6, 3]),
            "mobilenet-small" => mobilenet_small(example, classes),
            _ => Err(unknown(name)),
        }
    }

    /// A network for the embedded digits, 8x8x1: conv3x3 16, conv3x3 32, max pool 2x2, dense 64, dense 10,
    /// with ReLU after every layer but the last.
    ///
    /// # Errors
    /// None: the shapes are valid. This applies to the other predefined models too.
    pub fn digits() -> Result<Self> {
        digits(&[8, 8, 1], 10)
    }

    /// A network for the MNIST family, 28x28x1: conv5x5 32, max pool 2x2, conv5x5 64, max pool 2x2, dense
    /// 256, dense 10, with ReLU after every convolution and dense layer but the last.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn lenet28() -> Result<Self> {
        lenet28(&[28, 28, 1], 10)
    }

    /// A network for CIFAR-10, 32x32x3: conv3x3 32, 32, max pool 2x2, conv3x3 64, 64, max pool 2x2, conv3x3
    /// 128, max pool 2x2, dense 256, dense 10, with ReLU after every convolution and dense layer but the
    /// last.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn cifar() -> Result<Self> {
        cifar(&[32, 32, 3], 10)
    }

    /// ResNet-20 for CIFAR-10, 32x32x3 (He et al. 2015, section 4.2): conv3x3 16; three stages of three
    /// blocks of two conv3x3 with 16, 32 and 64 channels, the second and third stage beginning with stride 2;
    /// global average pooling; dense 10. Convolutions have no bias and are followed by batch norm; blocks
    /// that change the shape have a 1x1 projection shortcut. Blocks are named `block1_1` to `block3_3`, their
    /// layers `conv1`, `bn1`, `conv2`, `bn2`, `projection`, `projection_bn`.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn resnet20() -> Result<Self> {
        resnet20(&[32, 32, 3], 10)
    }

    /// ResNet-50 for ImageNet, 224x224x3 and 1000 classes, as torchvision builds it: 25,557,032 trained
    /// parameters. [`Model::bottleneck_resnet`] with 64 channels and 3, 4, 6 and 3 blocks.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn resnet50() -> Result<Self> {
        Model::bottleneck_resnet(&[224, 224, 3], 1000, 64, [3, 4, 6, 3])
    }

    /// A ResNet of bottleneck blocks (He et al. 2015, section 4.1) for images `example` = `[h, w, c]`, with the
    /// structure and the layer names of torchvision (version 1.5: the 3x3 convolution of a block has its
    /// stride): conv7x7 with `width` channels and stride 2; max pool 3x3 with stride 2; four stages of `blocks`
    /// blocks of conv1x1, conv3x3 and conv1x1 with `width` * 1, 2, 4 and 8 channels, of which the last has four
    /// times as many; global average pooling; dense. Each stage but the first begins with stride 2. Convolutions
    /// have no bias and are followed by batch norm; the first block of a stage has a 1x1 projection shortcut.
    ///
    /// ResNet-50, 101 and 152 have a width of 64 and 3, 4, 6, 3; 3, 4, 23, 3; and 3, 8, 36, 3 blocks. Layers are
    /// named `conv1`, `bn1`, `layer1.0.conv1` to `layer4.2.bn3`, `layer1.0.downsample.0` (the convolution of the
    /// shortcut), `layer1.0.downsample.1` (its batch norm) and `fc`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for no classes, a width of 0 or a stage without blocks;
    /// [`Error::ShapeMismatch`] for examples that are no images.
    pub fn bottleneck_resnet(
        example: &[usize],
        classes: usize,
        width: usize,
        blocks: [usize; 4],
    ) -> Result<Self> {
        if blocks.contains(&0) {
            let got = format!("{blocks:?}");
            return Err(Error::argument("Model::bottleneck_resnet: blocks", "1 or more blocks a stage", got));
        }
        let mut model = Model::input(example)
            .conv2d("conv1", width, [7, 7], |c| without_bias(c).padding(around(3)).stride([2, 2]))
            .batch_norm("bn1")
            .relu()
            .max_pool2d_with([3, 3], |p| p.padding(around(1)).stride([2, 2]));
        for (stage, count) in blocks.into_iter().enumerate() {
            let channels = width.saturating_mul(1 << stage);
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { [2, 2] } else { [1, 1] };
                model =
                    bottleneck(model, &format!("layer{}.{block}", stage + 1), channels, stride, block == 0);
            }
        }
        model.global_avg_pool().dense("fc", classes).build()
    }

    /// A small MobileNet for 32x32x3 (Howard et al. 2017): conv3x3 16; five blocks of a depthwise conv3x3 and
    /// a pointwise conv1x1 with 32, 64, 64, 128 and 128 output channels, the second and fourth with stride 2;
    /// global average pooling; dense 10. Convolutions have no bias and are followed by batch norm and ReLU.
    /// Layers are named `depthwise1`, `depthwise1_bn`, `pointwise1`, `pointwise1_bn` and so on.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn mobilenet_small() -> Result<Self> {
        mobilenet_small(&[32, 32, 3], 10)
    }
}

fn unknown(name: &str) -> Error {
    Error::argument("model", format!("one of {}", Model::NAMES.join(", ")), name)
}

fn digits(example: &[usize], classes: usize) -> Result<Model> {
    let mut model = Model::input(example);
    for (name, channels) in [("conv1", 16), ("conv2", 32)] {
        model = convolution_and_relu(model, name, channels, 3);
    }
    classifier(model.max_pool2d([2, 2]), 64, classes)
}

fn lenet28(example: &[usize], classes: usize) -> Result<Model> {
    let mut model = Model::input(example);
    for (name, channels) in [("conv1", 32), ("conv2", 64)] {
        model = convolution_and_relu(model, name, channels, 5).max_pool2d([2, 2]);
    }
    classifier(model, 256, classes)
}

fn cifar(example: &[usize], classes: usize) -> Result<Model> {
    let mut model = Model::input(example);
    for (name, channels, pools) in [
        ("conv1", 32, false),
        ("conv2", 32, true),
        ("conv3", 64, false),
        ("conv4", 64, true),
        ("conv5", 128, true),
    ] {
        model = convolution_and_relu(model, name, channels, 3);
        if pools {
            model = model.max_pool2d([2, 2]);
        }
    }
    classifier(model, 256, classes)
}

/// Appends a convolution with a square kernel, which keeps the size of the images, and a ReLU.
fn convolution_and_relu(model: ModelBuilder, name: &str, channels: usize, kernel: usize) -> ModelBuilder {
    model.conv2d(name, channels, [kernel; 2], |c| c.padding(Same)).relu()
}

/// Appends a hidden dense layer with ReLU and the dense layer of the classes, and builds the model.
fn classifier(model: ModelBuilder, hidden: usize, classes: usize) -> Result<Model> {
    model.flatten().dense("fc1", hidden).relu().dense("fc2", classes).build()
}

fn resnet20(example: &[usize], classes: usize) -> Result<Model> {
    let mut model = Model::input(example);
    model = model.conv2d("conv1", 16, [3, 3], |c| without_bias(c).padding(Same)).batch_norm("bn1").relu();
    for (stage, channels) in [(1, 16), (2, 32), (3, 64)] {
        for block in 1..=3 {
            let downsample = stage > 1 && block == 1;
            let stride = if downsample { [2, 2] } else { [1, 1] };
            let main = |b: ModelBuilder| {
                b.conv2d("conv1", channels, [3, 3], |c| without_bias(c).padding(Same).stride(stride))
                    .batch_norm("bn1")
                    .relu()
                    .conv2d("conv2", channels, [3, 3], |c| without_bias(c).padding(Same))
                    .batch_norm("bn2")
            };
            let shortcut = |b: ModelBuilder| {
                if !downsample {
                    return b;
                }
                b.conv2d("projection", channels, [1, 1], |c| without_bias(c).stride(stride))
                    .batch_norm("projection_bn")
            };
            model = model.residual(&format!("block{stage}_{block}"), main, shortcut).relu();
        }
    }
    model.global_avg_pool().dense("fc", classes).build()
}

/// Appends a bottleneck block with `channels` channels, of which its output has four times as many.
fn bottleneck(
    model: ModelBuilder,
    name: &str,
    channels: usize,
    stride: [usize; 2],
    projects: bool,
) -> ModelBuilder {
    let outputs = channels.saturating_mul(4);
    let main = |b: ModelBuilder| {
        b.conv2d("conv1", channels, [1, 1], without_bias)
            .batch_norm("bn1")
            .relu()
            .conv2d("conv2", channels, [3, 3], |c| without_bias(c).padding(around(1)).stride(stride))
            .batch_norm("bn2")
            .relu()
            .conv2d("conv3", outputs, [1, 1], without_bias)
            .batch_norm("bn3")
    };
    let shortcut = |b: ModelBuilder| {
        if !projects {
            return b;
        }
        b.conv2d("downsample.0", outputs, [1, 1], |c| without_bias(c).stride(stride))
            .batch_norm("downsample.1")
    };
    model.residual(name, main, shortcut).relu()
}

/// Padding of `size` pixels on each side.
fn around(size: usize) -> Padding {
    Padding::Explicit { top: size, bottom: size, left: size, right: size }
}

fn mobilenet_small(example: &[usize], classes: usize) -> Result<Model> {
    let mut model = Model::input(example);
    model = model.conv2d("conv1", 16, [3, 3], |c| without_bias(c).padding(Same)).batch_norm("bn1").relu();
    let mut c_in = 16;
    for (number, c_out, stride) in [(1, 32, 1), (2, 64, 2), (3, 64, 1), (4, 128, 2), (5, 128, 1)] {
        let depthwise = |c| without_bias(c).padding(Same).stride([stride, stride]).groups(c_in);
        model = model
            .conv2d(&format!("depthwise{number}"), c_in, [3, 3], depthwise)
            .batch_norm(&format!("depthwise{number}_bn"))
            .relu()
            .conv2d(&format!("pointwise{number}"), c_out, [1, 1], without_bias)
            .batch_norm(&format!("pointwise{number}_bn"))
            .relu();
        c_in = c_out;
    }
    model.global_avg_pool().dense("fc", classes).build()
}

/// Sets the options of a convolution that precedes a batch norm: no bias, because the shift of the batch norm
/// replaces it, and [`Init::HeNormal`].
fn without_bias(layer: Conv2dLayer) -> Conv2dLayer {
    layer.bias(false).init(Init::HeNormal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Op, ParameterKind};
    use crate::layer::Layer;
    use crate::loss::Loss;

    #[test]
    fn parameter_counts_of_plain_models() {
        let count = |model: Result<Model>| -> usize {
            model.unwrap().parameters().iter().map(|p| p.shape.elements()).sum()
        };
        // Expected number of parameters of each model: kernel and bias of each layer.
        let digits = (9 * 16 + 16) + (9 * 16 * 32 + 32) + (512 * 64 + 64) + (64 * 10 + 10);
        let lenet28 = (25 * 32 + 32) + (25 * 32 * 64 + 64) + (3136 * 256 + 256) + (256 * 10 + 10);
        let convs = (27 * 32 + 32) + (288 * 32 + 32) + (288 * 64 + 64) + (576 * 64 + 64) + (576 * 128 + 128);
        assert_eq!(count(Model::digits()), digits);
        assert_eq!(count(Model::lenet28()), lenet28);
        assert_eq!(count(Model::cifar()), convs + (2048 * 256 + 256) + (256 * 10 + 10));
    }

    #[test]
    fn parameter_counts_of_models_with_batch_norm() {
        // Returns the number of all parameters and the number of trained ones.
        let count = |model: Result<Model>| -> [usize; 2] {
            let model = model.unwrap();
            let elements = |all: bool| {
                let wanted = model.parameters().iter().filter(|p| all || p.kind == ParameterKind::Trained);
                wanted.map(|p| p.shape.elements()).sum()
            };
            [elements(true), elements(false)]
        };
        // Expected number of convolution weights, including projections, by stage; the next line counts the
        // parameters of the batch norms.
        let kernels = 27 * 16
            + 6 * (9 * 16 * 16)
            + (9 * 16 * 32 + 5 * (9 * 32 * 32) + 16 * 32)
            + (9 * 32 * 64 + 5 * (9 * 64 * 64) + 32 * 64);
        let bn_channels = 7 * 16 + 7 * 32 + 7 * 64;
        assert_eq!(kernels + 2 * bn_channels + 650, 272_474);
        assert_eq!(count(Model::resnet20()), [kernels + 4 * bn_channels + 650, 272_474]);
        let depthwise = 9 * (16 + 32 + 64 + 64 + 128);
        let pointwise = 16 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128;
        let bn_channels = 16 + (16 + 32) + (32 + 64) + (64 + 64) + (64 + 128) + (128 + 128);
        let kernels = 27 * 16 + depthwise + pointwise + 1290;
        assert_eq!(count(Model::mobilenet_small()), [kernels + 4 * bn_channels, kernels + 2 * bn_channels]);
    }

    /// Names, shapes and numbers of torchvision's `resnet50`, whose layers are listed in `named_modules` and whose
    /// documentation states the number of parameters.
    #[test]
    fn resnet50_has_the_layers_of_torchvision() {
        let model = Model::resnet50().unwrap();
        let trained = model.parameters().iter().filter(|p| p.kind == ParameterKind::Trained);
        assert_eq!(trained.map(|p| p.shape.elements()).sum::<usize>(), 25_557_032);
        // Name, side of the output, kernel, input channels and output channels of each convolution.
        let mut expected = vec![("conv1".to_owned(), 112, 7, 3, 64)];
        let mut from = 64;
        for (stage, blocks, side, channels) in
            [(1, 3, 56, 64), (2, 4, 28, 128), (3, 6, 14, 256), (4, 3, 7, 512)]
        {
            for block in 0..blocks {
                let name = |layer: &str| format!("layer{stage}.{block}.{layer}");
                // The first convolution of a block keeps the size, also where the block halves it.
                let before = if stage > 1 && block == 0 { 2 * side } else { side };
                expected.push((name("conv1"), before, 1, from, channels));
                expected.push((name("conv2"), side, 3, channels, channels));
                expected.push((name("conv3"), side, 1, channels, 4 * channels));
                if block == 0 {
                    expected.push((name("downsample.0"), side, 1, from, 4 * channels));
                }
                from = 4 * channels;
            }
        }
        assert_eq!(expected.len(), 53);
        let graph = model.evaluation_graph(4, Loss::SoftmaxCrossEntropy).unwrap().graph;
        let convolutions = graph.nodes().iter().filter(|node| matches!(node.op, Op::Conv2d(_)));
        for (node, (name, side, kernel, c_in, c_out)) in convolutions.zip(&expected) {
            let shape = |value| graph.value(value).unwrap().shape.extents().to_vec();
            assert_eq!(&node.label, name);
            assert_eq!(shape(node.outputs[0]), [4, *side, *side, *c_out], "{name}");
            assert_eq!(shape(node.inputs[1]), [*kernel, *kernel, *c_in, *c_out], "{name}");
        }
        // In the order of torchvision, each convolution precedes its batch norm.
        let norm = |name: &str| match name.strip_suffix("downsample.0") {
            Some(block) => format!("{block}downsample.1"),
            None => name.replace("conv", "bn"),
        };
        let mut paths = Vec::new();
        for (name, ..) in &expected {
            paths.push(format!("{name}.kernel"));
            paths.extend(
                ["scale", "shift", "running_mean", "running_var"].map(|f| format!("{}.{f}", norm(name))),
            );
        }
        paths.extend(["fc.kernel".to_owned(), "fc.bias".to_owned()]);
        let found: Vec<_> = model.parameters().iter().map(|p| p.path.clone()).collect();
        assert_eq!(found, paths);
        assert_eq!(model.parameters()[found.len() - 2].shape.extents(), [2048, 1000]);
        let pool = model.layers().iter().find(|named| matches!(named.layer, Layer::MaxPool2d(_))).unwrap();
        assert_eq!(pool.layer.output("pool", &[&[112, 112, 64]]).unwrap(), [56, 56, 64]);
    }

    #[test]
    fn bottleneck_resnet_refuses_empty_stages_and_zero_sizes() {
        let make = |classes, width, blocks| Model::bottleneck_resnet(&[32, 32, 3], classes, width, blocks);
        assert!(make(10, 4, [1, 1, 1, 1]).is_ok());
        for wrong in [make(10, 4, [1, 0, 1, 1]), make(0, 4, [1; 4]), make(10, 0, [1; 4])] {
            assert!(matches!(wrong, Err(Error::InvalidArgument { .. })), "{wrong:?}");
        }
        assert!(make(10, usize::MAX, [1; 4]).is_err());
    }

    #[test]
    fn named_for_fits_other_images_and_classes() {
        for name in Model::NAMES {
            for (example, classes) in [([28, 28, 1], 47), ([32, 32, 3], 100), ([40, 24, 2], 2)] {
                let model = Model::named_for(name, &example, classes).unwrap();
                assert_eq!((model.example_shape(), model.output()), (&example[..], &[classes][..]), "{name}");
            }
            assert!(Model::named_for(name, &[32, 32], 10).is_err(), "{name}");
            assert!(Model::named_for(name, &[32, 32, 3], 0).is_err(), "{name}");
            let same = Model::named(name).unwrap();
            assert_eq!(Model::named_for(name, same.example_shape(), same.output()[0]).unwrap(), same);
        }
        assert!(Model::named_for("cifar", &[7, 7, 3], 10).is_err());
        assert!(Model::named_for("resnet", &[32, 32, 3], 10).is_err());
    }

    #[test]
    fn named_builds_every_model_and_lists_names_on_error() {
        for name in Model::NAMES {
            let classes = if name == "resnet50" { 1000 } else { 10 };
            assert_eq!(Model::named(name).unwrap().output(), [classes], "{name}");
        }
        assert_eq!(Model::named("resnet20").unwrap(), Model::resnet20().unwrap());
        let error = Model::named("resnet").unwrap_err().to_string();
        assert!(Model::NAMES.iter().all(|name| error.contains(name)) && error.contains("resnet"), "{error}");
    }
}
