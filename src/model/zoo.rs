//! Predefined models.

use super::torchvision::{self, VGG11, VGG16, without_bias};
use super::{Model, ModelBuilder};
use crate::error::{Error, Result};
use crate::shape::Padding::Same;

impl Model {
    /// The names that [`Model::named`] accepts.
    pub const NAMES: [&'static str; 14] = [
        "digits",
        "lenet28",
        "cifar",
        "resnet20",
        "resnet18",
        "resnet34",
        "resnet50",
        "vgg11",
        "vgg11_bn",
        "vgg16",
        "vgg16_bn",
        "mobilenet-small",
        "mobilenet_v2",
        "efficientnet_b0",
    ];

    /// Builds the predefined model with this name; `-` in a name is `_` in the name of the function. Models of
    /// torchvision have its names, and their parameters those of its state dicts, which
    /// [`TorchStateDict`](crate::interop::TorchStateDict) reads and writes. `unet-small`,
    /// which is no classifier and thus not in [`Model::NAMES`], has 64x64x3 images and 2 output channels.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an unknown name, listing [`Model::NAMES`].
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "digits" => Model::digits(),
            "lenet28" => Model::lenet28(),
            "cifar" => Model::cifar(),
            "resnet20" => Model::resnet20(),
            "resnet18" => Model::resnet18(),
            "resnet34" => Model::resnet34(),
            "resnet50" => Model::resnet50(),
            "vgg11" => Model::vgg11(),
            "vgg11_bn" => Model::vgg11_bn(),
            "vgg16" => Model::vgg16(),
            "vgg16_bn" => Model::vgg16_bn(),
            "mobilenet-small" => Model::mobilenet_small(),
            "mobilenet_v2" => Model::mobilenet_v2(),
            "efficientnet_b0" => Model::efficientnet_b0(),
            "unet-small" => Model::unet_small(&[64, 64, 3], 2),
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
            "resnet18" => Model::basic_resnet(example, classes, 64, [2, 2, 2, 2]),
            "resnet34" => Model::basic_resnet(example, classes, 64, [3, 4, 6, 3]),
            "resnet50" => Model::bottleneck_resnet(example, classes, 64, [3, 4, 6, 3]),
            "vgg11" => torchvision::vgg(example, classes, &VGG11, false),
            "vgg11_bn" => torchvision::vgg(example, classes, &VGG11, true),
            "vgg16" => torchvision::vgg(example, classes, &VGG16, false),
            "vgg16_bn" => torchvision::vgg(example, classes, &VGG16, true),
            "mobilenet-small" => mobilenet_small(example, classes),
            "mobilenet_v2" => torchvision::mobilenet_v2(example, classes),
            "efficientnet_b0" => torchvision::efficientnet_b0(example, classes),
            "unet-small" => Model::unet_small(example, classes),
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

    /// A small U-Net (Ronneberger et al. 2015) for images `example` = `[h, w, c]`, whose rows and columns are multiples
    /// of 4: `outputs` numbers for each pixel, such as logits of classes. Two levels of two conv3x3 with 16 and 32
    /// channels and a max pool 2x2, two conv3x3 with 64, and back up two levels of a transposed conv2x2 with stride
    /// 2, a concatenation with the images of that level, and two conv3x3; conv1x1. Convolutions with 3x3 kernels
    /// have no bias and are followed by batch norm and ReLU. Layers are named `down1.conv1`, `down1.bn1`, ...,
    /// `down2`, `bottom`, `up2.transposed`, `up2.joined`, `up2.conv1`, ..., `up1` and `head`.
    ///
    /// Losses of classes take one label an example, so train it by [`Loss::MeanSquaredError`](crate::Loss::MeanSquaredError).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for no outputs; [`Error::ShapeMismatch`] for examples that are no such images.
    pub fn unet_small(example: &[usize], outputs: usize) -> Result<Self> {
        if !matches!(example, [h, w, _] if h.is_multiple_of(4) && w.is_multiple_of(4)) {
            let expected = "images [h, w, c] with rows and columns that are multiples of 4";
            return Err(Error::shape("Model::unet_small: example", expected, format!("{example:?}")));
        }
        let first = two_convolutions(Model::input(example), "down1", 16);
        let second = two_convolutions(first.clone().max_pool2d([2, 2]), "down2", 32);
        let bottom = two_convolutions(second.clone().max_pool2d([2, 2]), "bottom", 64);
        let second = up(bottom, "up2", 32, second);
        up(second, "up1", 16, first).conv2d("head", outputs, [1, 1], |c| c).build()
    }
}

/// Appends two conv3x3, each with batch norm and ReLU.
fn two_convolutions(mut model: ModelBuilder, name: &str, channels: usize) -> ModelBuilder {
    for number in [1, 2] {
        model = model
            .conv2d(&format!("{name}.conv{number}"), channels, [3, 3], |c| without_bias(c).padding(Same))
            .batch_norm(&format!("{name}.bn{number}"))
            .relu();
    }
    model
}

/// Appends a level of a U-Net that doubles the size of images; `skipped` are those of that size.
fn up(model: ModelBuilder, name: &str, channels: usize, skipped: ModelBuilder) -> ModelBuilder {
    let up = model.conv_transpose2d(&format!("{name}.transposed"), channels, [2, 2], |c| c.stride([2, 2]));
    two_convolutions(up.concat(&format!("{name}.joined"), [skipped]), name, channels)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ParameterKind;

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

    #[test]
    fn unet_has_outputs_for_each_pixel() {
        let model = Model::named("unet-small").unwrap();
        assert_eq!(model.output(), [64, 64, 2]);
        assert_eq!(Model::named_for("unet-small", &[32, 48, 1], 5).unwrap().output(), [32, 48, 5]);
        let of = |c_in: usize, c: usize| 9 * c * (c_in + c) + 4 * c;
        let expected = of(3, 16) + of(16, 32) + of(32, 64) + of(64, 32) + of(32, 16);
        let transposed = (4 * 64 * 32 + 32) + (4 * 32 * 16 + 16);
        let trained = model.parameters().iter().filter(|p| p.kind == ParameterKind::Trained);
        let trained: usize = trained.map(|p| p.shape.elements()).sum();
        assert_eq!(trained, expected + transposed + 16 * 2 + 2);
        for wrong in [&[30, 32, 3][..], &[32, 32], &[0, 4, 3]] {
            assert!(Model::unet_small(wrong, 2).is_err(), "{wrong:?}");
        }
        assert!(Model::unet_small(&[32, 32, 3], 0).is_err());
    }

    #[test]
    fn named_for_fits_other_images_and_classes() {
        for name in Model::NAMES {
            // Five pools leave no pixel of 28x28.
            let smallest = if name.starts_with("vgg") { [32, 32, 1] } else { [28, 28, 1] };
            for (example, classes) in [(smallest, 47), ([32, 32, 3], 100), ([40, 64, 2], 2)] {
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
            let model = Model::named(name).unwrap();
            let classes = if model.example_shape() == [224, 224, 3] { 1000 } else { 10 };
            assert_eq!(model.output(), [classes], "{name}");
        }
        assert_eq!(Model::named("resnet20").unwrap(), Model::resnet20().unwrap());
        let error = Model::named("resnet").unwrap_err().to_string();
        assert!(Model::NAMES.iter().all(|name| error.contains(name)) && error.contains("resnet"), "{error}");
    }
}
