//! Models with the structure and the names of torchvision: the parameters of a layer `a.b.0` belong to the module
//! `a.b.0` of torchvision's model.

use super::{Model, ModelBuilder};
use crate::error::{Error, Result};
use crate::layer::{Conv2dLayer, Init};
use crate::shape::Padding;

/// Shape of the images of ImageNet.
const IMAGENET: [usize; 3] = [224, 224, 3];

/// Numbers of 3x3 convolutions of VGG-11's stages.
pub(super) const VGG11: [usize; 5] = [1, 1, 2, 2, 2];

/// Numbers of 3x3 convolutions of VGG-16's stages.
pub(super) const VGG16: [usize; 5] = [2, 2, 3, 3, 3];

impl Model {
    /// ResNet-18 for ImageNet, 224x224x3 and 1000 classes: 11,689,512 trained parameters. [`Model::basic_resnet`]
    /// with 64 channels and 2 blocks a stage.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn resnet18() -> Result<Self> {
        Model::named_for("resnet18", &IMAGENET, 1000)
    }

    /// ResNet-34 for ImageNet, 224x224x3 and 1000 classes: 21,797,672 trained parameters. [`Model::basic_resnet`]
    /// with 64 channels and 3, 4, 6 and 3 blocks.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn resnet34() -> Result<Self> {
        Model::named_for("resnet34", &IMAGENET, 1000)
    }

    /// ResNet-50 for ImageNet, 224x224x3 and 1000 classes, as torchvision builds it: 25,557,032 trained
    /// parameters. [`Model::bottleneck_resnet`] with 64 channels and 3, 4, 6 and 3 blocks.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn resnet50() -> Result<Self> {
        Model::named_for("resnet50", &IMAGENET, 1000)
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
        resnet("Model::bottleneck_resnet", example, classes, width, blocks, bottleneck)
    }

    /// A ResNet of basic blocks (He et al. 2015, section 4.1) for images `example` = `[h, w, c]`, with the structure
    /// and the layer names of torchvision: as [`Model::bottleneck_resnet`], but with blocks of two conv3x3 of
    /// `width` * 1, 2, 4 and 8 channels, of which the first has the stride. The first block of each stage but the
    /// first has a 1x1 projection shortcut.
    ///
    /// # Errors
    /// As [`Model::bottleneck_resnet`].
    pub fn basic_resnet(example: &[usize], classes: usize, width: usize, blocks: [usize; 4]) -> Result<Self> {
        resnet("Model::basic_resnet", example, classes, width, blocks, basic)
    }

    /// VGG-11 for ImageNet, 224x224x3 and 1000 classes (Simonyan and Zisserman 2014), as torchvision builds it:
    /// 132,863,336 parameters. Five stages of conv3x3 with ReLU, 64, 128, 256, 512 and 512 channels, and a max pool
    /// 2x2; dense 4096, 4096 and 1000 with ReLU and dropout between them. Layers are named `features.0` to
    /// `features.18`, `classifier.0`, `classifier.3` and `classifier.6`.
    ///
    /// As torchvision's, [`Model::named_for`] averages images of other sizes to 7x7 pixels before the dense layers.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn vgg11() -> Result<Self> {
        Model::named_for("vgg11", &IMAGENET, 1000)
    }

    /// [`Model::vgg11`] with a batch norm after each convolution: 132,868,840 trained parameters.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn vgg11_bn() -> Result<Self> {
        Model::named_for("vgg11_bn", &IMAGENET, 1000)
    }

    /// VGG-16, as [`Model::vgg11`] with 2, 2, 3, 3 and 3 convolutions: 138,357,544 parameters.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn vgg16() -> Result<Self> {
        Model::named_for("vgg16", &IMAGENET, 1000)
    }

    /// [`Model::vgg16`] with a batch norm after each convolution: 138,365,992 trained parameters.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn vgg16_bn() -> Result<Self> {
        Model::named_for("vgg16_bn", &IMAGENET, 1000)
    }

    /// MobileNetV2 for ImageNet, 224x224x3 and 1000 classes (Sandler et al. 2018), as torchvision builds it:
    /// 3,504,872 trained parameters. conv3x3 32 with stride 2; 17 inverted residual blocks of a conv1x1 that
    /// expands the channels six times, a depthwise conv3x3 and a conv1x1; conv1x1 1280; global average pooling;
    /// dropout; dense. Convolutions have no bias and are followed by batch norm and, but for the last of a block,
    /// ReLU6. Layers are named `features.0.0`, `features.0.1`, `features.1.conv.0.0` to `features.17.conv.3`,
    /// `features.18.0`, `features.18.1` and `classifier.1`.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn mobilenet_v2() -> Result<Self> {
        Model::named_for("mobilenet_v2", &IMAGENET, 1000)
    }

    /// EfficientNet-B0 for ImageNet, 224x224x3 and 1000 classes (Tan and Le 2019), as torchvision builds it:
    /// 5,288,548 trained parameters. conv3x3 32 with stride 2; 16 inverted residual blocks with squeeze and excitation
    /// (Hu et al. 2018); conv1x1 1280; global average pooling; dropout; dense. Convolutions but those of squeeze and
    /// excitation have no bias and are followed by batch norm and, but for the last of a block, SiLU. Layers are
    /// named `features.0.0`, `features.0.1`, `features.1.0.block.0.0` to `features.7.0.block.3.1`, `features.8.0`,
    /// `features.8.1` and `classifier.1`.
    ///
    /// torchvision's training also leaves out whole blocks at random (stochastic depth); this model does not.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn efficientnet_b0() -> Result<Self> {
        Model::named_for("efficientnet_b0", &IMAGENET, 1000)
    }
}

/// Appends a block with a name, a number of channels and a stride; the last argument says whether it is the first of
/// its stage.
type Block = fn(ModelBuilder, &str, usize, [usize; 2], bool) -> ModelBuilder;

fn resnet(
    at: &str,
    example: &[usize],
    classes: usize,
    width: usize,
    blocks: [usize; 4],
    block: Block,
) -> Result<Model> {
    if blocks.contains(&0) {
        let got = format!("{blocks:?}");
        return Err(Error::argument(format!("{at}: blocks"), "1 or more blocks a stage", got));
    }
    let mut model = Model::input(example)
        .conv2d("conv1", width, [7, 7], |c| without_bias(c).padding(around(3)).stride([2, 2]))
        .batch_norm("bn1")
        .relu()
        .max_pool2d_with([3, 3], |p| p.padding(around(1)).stride([2, 2]));
    for (stage, count) in blocks.into_iter().enumerate() {
        let channels = width.saturating_mul(1 << stage);
        for index in 0..count {
            let stride = if stage > 0 && index == 0 { [2, 2] } else { [1, 1] };
            model = block(model, &format!("layer{}.{index}", stage + 1), channels, stride, index == 0);
        }
    }
    model.global_avg_pool().dense("fc", classes).build()
}

/// Appends a basic block with `channels` channels.
fn basic(model: ModelBuilder, name: &str, channels: usize, stride: [usize; 2], _first: bool) -> ModelBuilder {
    let main = |b: ModelBuilder| {
        b.conv2d("conv1", channels, [3, 3], |c| without_bias(c).padding(around(1)).stride(stride))
            .batch_norm("bn1")
            .relu()
            .conv2d("conv2", channels, [3, 3], |c| without_bias(c).padding(around(1)))
            .batch_norm("bn2")
    };
    // Only the first block of a later stage changes the shape.
    let shortcut = |b: ModelBuilder| if stride == [1, 1] { b } else { projection(b, channels, stride) };
    model.residual(name, main, shortcut).relu()
}

/// Appends a bottleneck block with `channels` channels, of which its output has four times as many.
fn bottleneck(
    model: ModelBuilder,
    name: &str,
    channels: usize,
    stride: [usize; 2],
    first: bool,
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
    let shortcut = |b: ModelBuilder| if first { projection(b, outputs, stride) } else { b };
    model.residual(name, main, shortcut).relu()
}

/// Appends the projection shortcut of a block.
fn projection(model: ModelBuilder, channels: usize, stride: [usize; 2]) -> ModelBuilder {
    model
        .conv2d("downsample.0", channels, [1, 1], |c| without_bias(c).stride(stride))
        .batch_norm("downsample.1")
}

pub(super) fn vgg(example: &[usize], classes: usize, stages: &[usize; 5], norms: bool) -> Result<Model> {
    let mut model = Model::input(example);
    // Index of the next module in torchvision's `features`.
    let mut index = 0;
    for (count, channels) in stages.iter().zip([64, 128, 256, 512, 512]) {
        for _ in 0..*count {
            let name = format!("features.{index}");
            model = model.conv2d(&name, channels, [3, 3], |c| c.padding(around(1)).init(Init::HeNormal));
            if norms {
                index += 1;
                model = model.batch_norm(&format!("features.{index}"));
            }
            model = model.relu();
            index += 2;
        }
        model = model.max_pool2d([2, 2]);
        index += 1;
    }
    // Five pools halve the size, rounding down. At 7x7 pixels, torchvision's adaptive pooling is the identity.
    let seven = matches!(*example, [h, w, _] if h / 32 == 7 && w / 32 == 7);
    model = if seven { model.flatten() } else { model.adaptive_avg_pool2d([7, 7]).flatten() };
    for name in ["classifier.0", "classifier.3"] {
        model = model.dense(name, 4096).relu().dropout(0.5);
    }
    model.dense("classifier.6", classes).build()
}

pub(super) fn mobilenet_v2(example: &[usize], classes: usize) -> Result<Model> {
    let stem = |c: Conv2dLayer| without_bias(c).padding(around(1)).stride([2, 2]);
    let mut model = Model::input(example).conv2d("features.0.0", 32, [3, 3], stem);
    model = model.batch_norm("features.0.1").relu6();
    let (mut c_in, mut index) = (32, 1);
    // Expansion, output channels, number of blocks, and stride of the first block of each stage.
    for (expansion, c_out, count, stride) in [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ] {
        for block in 0..count {
            let stride = if block == 0 { stride } else { 1 };
            let name = format!("features.{index}");
            let layers = |b| inverted_residual(b, c_in, expansion, c_out, stride);
            model = if stride == 1 && c_in == c_out {
                model.residual(&name, layers, |shortcut| shortcut)
            } else {
                model.scope(&name, layers)
            };
            (c_in, index) = (c_out, index + 1);
        }
    }
    model = model.conv2d("features.18.0", 1280, [1, 1], without_bias).batch_norm("features.18.1").relu6();
    model.global_avg_pool().dropout(0.2).dense("classifier.1", classes).build()
}

/// Appends the layers of an inverted residual block.
fn inverted_residual(
    mut model: ModelBuilder,
    c_in: usize,
    expansion: usize,
    c_out: usize,
    stride: usize,
) -> ModelBuilder {
    let hidden = c_in * expansion;
    let mut index = 0;
    if expansion > 1 {
        model = model.conv2d("conv.0.0", hidden, [1, 1], without_bias).batch_norm("conv.0.1").relu6();
        index = 1;
    }
    let depthwise = |c: Conv2dLayer| without_bias(c).padding(around(1)).stride([stride; 2]).groups(hidden);
    model
        .conv2d(&format!("conv.{index}.0"), hidden, [3, 3], depthwise)
        .batch_norm(&format!("conv.{index}.1"))
        .relu6()
        .conv2d(&format!("conv.{}", index + 1), c_out, [1, 1], without_bias)
        .batch_norm(&format!("conv.{}", index + 2))
}

pub(super) fn efficientnet_b0(example: &[usize], classes: usize) -> Result<Model> {
    let stem = |c: Conv2dLayer| without_bias(c).padding(around(1)).stride([2, 2]);
    let mut model = Model::input(example).conv2d("features.0.0", 32, [3, 3], stem);
    model = model.batch_norm("features.0.1").silu();
    let mut c_in = 32;
    // Expansion, kernel, output channels, number of blocks, and stride of the first block of each stage.
    let stages = [
        (1, 3, 16, 1, 1),
        (6, 3, 24, 2, 2),
        (6, 5, 40, 2, 2),
        (6, 3, 80, 3, 2),
        (6, 5, 112, 3, 1),
        (6, 5, 192, 4, 2),
        (6, 3, 320, 1, 1),
    ];
    for (stage, (expansion, kernel, c_out, count, stride)) in (1..).zip(stages) {
        for block in 0..count {
            let stride = if block == 0 { stride } else { 1 };
            let name = format!("features.{stage}.{block}");
            let layers = |b| excited_residual(b, c_in, expansion, kernel, c_out, stride);
            model = if stride == 1 && c_in == c_out {
                model.residual(&name, layers, |shortcut| shortcut)
            } else {
                model.scope(&name, layers)
            };
            c_in = c_out;
        }
    }
    model = model.conv2d("features.8.0", 1280, [1, 1], without_bias).batch_norm("features.8.1").silu();
    model.global_avg_pool().dropout(0.2).dense("classifier.1", classes).build()
}

/// Appends the layers of an inverted residual block with squeeze and excitation.
fn excited_residual(
    mut model: ModelBuilder,
    c_in: usize,
    expansion: usize,
    kernel: usize,
    c_out: usize,
    stride: usize,
) -> ModelBuilder {
    let hidden = c_in * expansion;
    let mut index = 0;
    if expansion > 1 {
        model = model.conv2d("block.0.0", hidden, [1, 1], without_bias).batch_norm("block.0.1").silu();
        index = 1;
    }
    let depthwise =
        |c: Conv2dLayer| without_bias(c).padding(around(kernel / 2)).stride([stride; 2]).groups(hidden);
    let image = model
        .conv2d(&format!("block.{index}.0"), hidden, [kernel; 2], depthwise)
        .batch_norm(&format!("block.{index}.1"))
        .silu();
    let excitation = format!("block.{}", index + 1);
    let factors = image
        .clone()
        .global_avg_pool()
        .reshape([1, 1, hidden])
        .conv2d(&format!("{excitation}.fc1"), (c_in / 4).max(1), [1, 1], |c| c)
        .silu()
        .conv2d(&format!("{excitation}.fc2"), hidden, [1, 1], |c| c)
        .sigmoid();
    image
        .mul(&excitation, factors)
        .conv2d(&format!("block.{}.0", index + 2), c_out, [1, 1], without_bias)
        .batch_norm(&format!("block.{}.1", index + 2))
}

/// Padding of `size` pixels on each side.
fn around(size: usize) -> Padding {
    Padding::Explicit { top: size, bottom: size, left: size, right: size }
}

/// Sets the options of a convolution that precedes a batch norm: no bias, because the shift of the batch norm
/// replaces it, and [`Init::HeNormal`].
pub(super) fn without_bias(layer: Conv2dLayer) -> Conv2dLayer {
    layer.bias(false).init(Init::HeNormal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Op, ParameterKind};
    use crate::layer::Layer;
    use crate::loss::Loss;

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
    fn vgg_averages_to_7x7_pixels() {
        for (example, averages) in [([224, 255, 3], false), ([256, 224, 3], true), ([32, 40, 1], true)] {
            let model = Model::named_for("vgg11", &example, 10).unwrap();
            let found =
                model.layers().iter().any(|layer| matches!(layer.layer(), Layer::AdaptiveAvgPool2d(_)));
            assert_eq!(found, averages, "{example:?}");
            let dense = model.parameters().iter().find(|p| p.path == "classifier.0.kernel").unwrap();
            assert_eq!(dense.shape.extents(), [512 * 49, 4096]);
        }
        assert!(Model::named_for("vgg11", &[31, 64, 3], 10).is_err());
    }
}
