//! Layers: parameters, output shape and forward operations. Gradients come from [`Graph::backward`].

mod batch_norm;
mod conv_transpose;
mod dense;
mod group_norm;
mod init;
mod local_response_norm;
mod upsample;
mod window;

pub use batch_norm::BatchNormLayer;
pub use conv_transpose::ConvTranspose2dLayer;
pub use dense::DenseLayer;
pub use group_norm::{GroupNormLayer, LayerNormLayer};
pub use init::Init;
pub use local_response_norm::LocalResponseNormLayer;
pub use upsample::{UpsampleLayer, Upsampling};
pub use window::{Conv2dLayer, Pool2dLayer};

use crate::error::{Error, Result};
use crate::graph::{
    Activation, Dropout, Graph, Op, ParameterKind, Resample2d, Resampling, ResamplingRule, ValueId,
};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// Whether a graph is built for training or for evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Training: batch norm uses the statistics of the batch unless it is set to use the running ones, dropout
    /// is active.
    Training,
    /// Evaluation: batch norm uses the running statistics, dropout is the identity.
    Evaluation,
}

/// A layer of a model.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Layer {
    /// 2-D convolution.
    Conv2d(Conv2dLayer),
    /// Transposed 2-D convolution.
    ConvTranspose2d(ConvTranspose2dLayer),
    /// Fully connected layer.
    Dense(DenseLayer),
    /// Batch normalization.
    BatchNorm(BatchNormLayer),
    /// Group normalization of each example.
    GroupNorm(GroupNormLayer),
    /// Layer normalization of each example.
    LayerNorm(LayerNormLayer),
    /// Local response normalization across channels.
    LocalResponseNorm(LocalResponseNormLayer),
    /// Elementwise sum of two operands or more, of one shape.
    Add,
    /// Product of two operands: of one shape, element by element; or of `[.., c]` with a factor for each channel,
    /// `[c]` or `[1, 1, c]` (squeeze and excitation).
    Mul,
    /// Two operands or more side by side along the last axis: the channels of images, or features.
    Concat,
    /// The channels of `groups` groups of equal size by turns, the first of each, then the second of each (Zhang et al.
    /// 2018); PyTorch's `nn.ChannelShuffle`.
    ChannelShuffle {
        /// Number of groups, a divisor of the number of channels.
        groups: usize,
    },
    /// `max(x, 0)`.
    Relu,
    /// Other elementwise activation.
    Activation(Activation),
    /// Softmax over the classes. For inference only: losses take logits.
    Softmax,
    /// Logarithm of the softmax over the classes. A softmax cross-entropy of its output is that of its input.
    LogSoftmax,
    /// Dropout: zeroes random elements in training and scales the others by `1 / (1 - rate)`; identity in
    /// evaluation.
    Dropout {
        /// Probability that an element becomes 0, in `[0, 1)`.
        rate: f64,
    },
    /// Max-pooling.
    MaxPool2d(Pool2dLayer),
    /// Average pooling.
    AvgPool2d(Pool2dLayer),
    /// Max-pooling to `[rows, columns]`, which divide the size of the images.
    AdaptiveMaxPool2d([usize; 2]),
    /// Average pooling to `[rows, columns]`. Output `o` of `n` from `m` pixels is the mean of the pixels from
    /// `floor(o * m / n)` to before `ceil((o + 1) * m / n)`, on both axes.
    AdaptiveAvgPool2d([usize; 2]),
    /// Upsampling, nearest or bilinear.
    Upsample(UpsampleLayer),
    /// Global average pooling, `[h, w, c]` to `[c]`.
    GlobalAvgPool,
    /// Reshape of `[h, w, c]` to `[h*w*c]`, row-major.
    Flatten,
    /// Reshape of each example to this shape with the same number of elements, row-major.
    Reshape(Vec<usize>),
}

/// Specification of a parameter of a layer.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Path, such as `conv1.kernel`.
    pub path: String,
    /// Shape.
    pub shape: Shape,
    /// Initializer.
    pub init: Init,
    /// `[fan_in, fan_out]`, for the scale of the initializer.
    pub fan: [usize; 2],
    /// Whether it is trained or a running statistic.
    pub kind: ParameterKind,
}

impl Layer {
    /// Returns the dense layer or convolution with another number of outputs; `None` for other layers.
    pub(crate) fn with_outputs(&self, outputs: usize) -> Option<Self> {
        match self {
            Layer::Dense(dense) => Some(Layer::Dense(dense.clone().with_outputs(outputs))),
            Layer::Conv2d(conv) => Some(Layer::Conv2d(conv.clone().with_outputs(outputs))),
            _ => None,
        }
    }

    /// Whether the layer has one operand and no parameters, and its output has as many channels as the operand.
    pub(crate) fn keeps_channels(&self) -> bool {
        use Layer::{
            Activation, AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, Dropout, Flatten, GlobalAvgPool,
            LogSoftmax, MaxPool2d, Relu, Reshape, Softmax,
        };
        match self {
            Relu | Activation(_) | Softmax | LogSoftmax | Dropout { .. } | GlobalAvgPool => true,
            MaxPool2d(_) | AvgPool2d(_) | AdaptiveMaxPool2d(_) | AdaptiveAvgPool2d(_) => true,
            // Of one pixel; the shape is checked afterwards.
            Flatten | Reshape(_) => true,
            _ => false,
        }
    }

    /// Returns the output shape for one example whose operands have the shapes `inputs`; error messages contain
    /// `name`, the layer's name.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the layer does not accept the shapes; [`Error::InvalidArgument`] for an
    /// invalid setting or number of operands.
    pub fn output(&self, name: &str, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        match (self, inputs) {
            (Layer::Mul, [a, b]) if has_factors(a, b) => Ok(a.to_vec()),
            (Layer::Mul, [a, b]) if has_factors(b, a) => Ok(b.to_vec()),
            (Layer::Add, [first, _, ..]) | (Layer::Mul, [first, _]) => {
                match inputs.iter().find(|other| *other != first) {
                    None => Ok(first.to_vec()),
                    Some(other) => {
                        let factors = if *self == Layer::Mul { ", or a factor for each channel" } else { "" };
                        let expected = format!("operands of one shape, {first:?}{factors}");
                        Err(Error::shape(name, expected, format!("{other:?}")))
                    }
                }
            }
            (Layer::Concat, [[.., _], [.., _], ..]) => {
                let before = |shape: &[usize]| shape[..shape.len().saturating_sub(1)].to_vec();
                if let Some(other) = inputs.iter().find(|other| before(other) != before(inputs[0])) {
                    let expected = format!("the extents of {:?} before the last", inputs[0]);
                    return Err(Error::shape(name, expected, format!("{other:?}")));
                }
                let channels = inputs.iter().filter_map(|shape| shape.last());
                let channels = channels.fold(0usize, |sum, &c| sum.saturating_add(c));
                let mut output = before(inputs[0]);
                output.push(channels);
                Shape::new(output.as_slice())?;
                Ok(output)
            }
            (Layer::Conv2d(layer), [input]) => {
                let conv = layer.resolve(name, input)?;
                Ok(vec![conv.window.output[0], conv.window.output[1], conv.c_out])
            }
            (Layer::ConvTranspose2d(layer), [input]) => {
                let conv = layer.resolve(name, input)?;
                let output = vec![conv.window.input[0], conv.window.input[1], conv.c_in];
                Shape::new(output.as_slice())?;
                Ok(output)
            }
            (Layer::Dense(layer), [input]) => layer.output(name, input),
            (Layer::BatchNorm(layer), [input]) => layer.output(name, input),
            (Layer::GroupNorm(layer), [input]) => layer.output(name, input),
            (Layer::LayerNorm(layer), [input]) => layer.output(name, input),
            (Layer::LocalResponseNorm(layer), [input]) => layer.output(name, input),
            (Layer::ChannelShuffle { groups }, [input]) => {
                shuffle(name, input, *groups).map(|_| input.to_vec())
            }
            (Layer::Relu | Layer::Activation(_) | Layer::Softmax | Layer::LogSoftmax, [input]) => {
                Ok(input.to_vec())
            }
            (Layer::Dropout { rate }, [input]) => dropout_rate(name, *rate).map(|()| input.to_vec()),
            (Layer::MaxPool2d(layer), [input]) => layer.max(name, input).and(layer.output(name, input)),
            (Layer::AvgPool2d(layer), [input]) => layer.average(name, input).and(layer.output(name, input)),
            (Layer::AdaptiveMaxPool2d(size), [input]) => {
                window::adaptive_max(name, input, *size).map(|_| vec![size[0], size[1], input[2]])
            }
            (Layer::AdaptiveAvgPool2d(size), [input]) => {
                window::adaptive_average(name, input, *size)?;
                let output = vec![size[0], size[1], input[2]];
                Shape::new(output.as_slice()).map(|_| output)
            }
            (Layer::Upsample(layer), [input]) => layer.output(name, input),
            (Layer::GlobalAvgPool, [[_, _, channels]]) => Ok(vec![*channels]),
            (Layer::GlobalAvgPool, [input]) => Err(not_images(name, input)),
            (Layer::Flatten, [input]) => Ok(vec![Shape::new(*input)?.elements()]),
            (Layer::Reshape(shape), [input]) => {
                let (from, to) = (Shape::new(*input)?, Shape::new(shape.as_slice())?);
                if from.elements() != to.elements() {
                    let expected = format!("a shape with the {} elements of {from}", from.elements());
                    return Err(Error::shape(name, expected, to));
                }
                Ok(shape.clone())
            }
            _ => Err(self.wrong_operands(name, inputs.len())),
        }
    }

    /// Returns the error for a wrong number of operands.
    fn wrong_operands(&self, name: &str, got: usize) -> Error {
        let expected = match self {
            Layer::Add | Layer::Concat => "two operands or more",
            Layer::Mul => "two operands; multiply their product by a third",
            _ => "one operand",
        };
        Error::argument(name, expected, got)
    }

    /// Returns the parameters for operands of the shapes `inputs`, with paths that begin with `name`.
    ///
    /// # Errors
    /// As [`Layer::output`].
    pub fn parameters(&self, name: &str, inputs: &[&[usize]]) -> Result<Vec<ParameterSpec>> {
        match (self, inputs) {
            (Layer::Conv2d(layer), [input]) => layer.parameters(name, input),
            (Layer::ConvTranspose2d(layer), [input]) => layer.parameters(name, input),
            (Layer::Dense(layer), [input]) => layer.parameters(name, input),
            (Layer::BatchNorm(layer), [input]) => layer.parameters(name, input),
            (Layer::GroupNorm(layer), [input]) => layer.parameters(name, input),
            (Layer::LayerNorm(layer), [input]) => layer.parameters(name, input),
            _ => Ok(Vec::new()),
        }
    }

    /// Name of the kind of layer, with which layers without a name are numbered.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Layer::Conv2d(_) => "conv",
            Layer::ConvTranspose2d(_) => "conv_transpose",
            Layer::Dense(_) => "dense",
            Layer::BatchNorm(_) => "batch_norm",
            Layer::GroupNorm(_) => "group_norm",
            Layer::LayerNorm(_) => "layer_norm",
            Layer::LocalResponseNorm(_) => "local_response_norm",
            Layer::ChannelShuffle { .. } => "channel_shuffle",
            Layer::Add => "add",
            Layer::Mul => "mul",
            Layer::Concat => "concat",
            Layer::Relu => "relu",
            Layer::Activation(Activation::LeakyRelu { .. }) => "leaky_relu",
            Layer::Activation(Activation::Clamp { .. }) => "clamp",
            Layer::Activation(Activation::Sigmoid) => "sigmoid",
            Layer::Activation(Activation::Tanh) => "tanh",
            Layer::Activation(Activation::Gelu) => "gelu",
            Layer::Activation(Activation::GeluTanh) => "gelu_tanh",
            Layer::Activation(Activation::Relu6) => "relu6",
            Layer::Activation(Activation::Silu) => "silu",
            Layer::Activation(Activation::HardSigmoid) => "hard_sigmoid",
            Layer::Activation(Activation::HardSwish) => "hard_swish",
            Layer::Activation(Activation::InversePower { .. }) => "inverse_power",
            Layer::Softmax => "softmax",
            Layer::LogSoftmax => "log_softmax",
            Layer::Dropout { .. } => "dropout",
            Layer::MaxPool2d(_) => "max_pool",
            Layer::AvgPool2d(_) => "avg_pool",
            Layer::AdaptiveMaxPool2d(_) => "adaptive_max_pool",
            Layer::AdaptiveAvgPool2d(_) => "adaptive_avg_pool",
            Layer::Upsample(_) => "upsample",
            Layer::GlobalAvgPool => "global_avg_pool",
            Layer::Flatten => "flatten",
            Layer::Reshape(_) => "reshape",
        }
    }

    /// Sets the initializer of the kernel unless there is a kernel with one.
    pub(crate) fn default_init(&mut self, init: Init) {
        match self {
            Layer::Conv2d(layer) => layer.default_init(init),
            Layer::ConvTranspose2d(layer) => layer.default_init(init),
            Layer::Dense(layer) => layer.default_init(init),
            _ => {}
        }
    }

    /// Whether the layer halves the mean square of its input, as ReLU does.
    pub(crate) fn is_rectifier(&self) -> bool {
        use Activation::{Gelu, GeluTanh, HardSwish, LeakyRelu, Relu6, Silu};
        let curved =
            |a: &Activation| matches!(a, LeakyRelu { .. } | Gelu | GeluTanh | Relu6 | Silu | HardSwish);
        matches!(self, Layer::Relu) || matches!(self, Layer::Activation(activation) if curved(activation))
    }

    /// Whether the layer has about the same distribution of values after a rectifier as before.
    pub(crate) fn passes_on(&self) -> bool {
        match self {
            Layer::BatchNorm(_)
            | Layer::GroupNorm(_)
            | Layer::LayerNorm(_)
            | Layer::Add
            | Layer::Concat
            | Layer::LocalResponseNorm(_)
            | Layer::ChannelShuffle { .. }
            | Layer::Dropout { .. }
            | Layer::MaxPool2d(_)
            | Layer::AvgPool2d(_)
            | Layer::AdaptiveMaxPool2d(_)
            | Layer::AdaptiveAvgPool2d(_)
            | Layer::Upsample(_)
            | Layer::GlobalAvgPool
            | Layer::Flatten
            | Layer::Reshape(_) => true,
            Layer::Conv2d(_)
            | Layer::ConvTranspose2d(_)
            | Layer::Dense(_)
            | Layer::Mul
            | Layer::Relu
            | Layer::Activation(_)
            | Layer::Softmax
            | Layer::LogSoftmax => false,
        }
    }

    /// Returns whether the output in training depends only on the example and the parameters: no random
    /// numbers, no statistics over the batch.
    pub(crate) fn is_fixed(&self) -> bool {
        match self {
            Layer::Dropout { rate } => *rate == 0.0,
            Layer::BatchNorm(layer) => layer.is_fixed(),
            _ => true,
        }
    }

    /// Appends the forward operations and returns the output. `parameters` are the values of
    /// [`Layer::parameters`].
    ///
    /// # Errors
    /// As [`Layer::output`].
    pub(crate) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        inputs: &[ValueId],
        parameters: &[ValueId],
        mode: Mode,
    ) -> Result<ValueId> {
        match (self, inputs) {
            (Layer::Add, [a, b, others @ ..]) => {
                let sum = graph.push_one(Op::Add, &[*a, *b], name)?;
                others.iter().try_fold(sum, |sum, &other| graph.push_one(Op::Add, &[sum, other], name))
            }
            (Layer::Concat, [first, others @ ..]) if !others.is_empty() => others
                .iter()
                .try_fold(*first, |joined, &other| graph.push_one(Op::Concat, &[joined, other], name)),
            (Layer::Mul, &[a, b]) => mul(graph, name, a, b),
            (Layer::Conv2d(layer), &[x]) => layer.forward(graph, name, x, parameters),
            (Layer::ConvTranspose2d(layer), &[x]) => layer.forward(graph, name, x, parameters),
            (Layer::Dense(layer), &[x]) => layer.forward(graph, name, x, parameters),
            (Layer::BatchNorm(layer), &[x]) => layer.forward(graph, name, x, parameters, mode),
            (Layer::GroupNorm(layer), &[x]) => layer.forward(graph, name, x, parameters),
            (Layer::LayerNorm(layer), &[x]) => layer.forward(graph, name, x, parameters),
            (Layer::LocalResponseNorm(layer), &[x]) => layer.forward(graph, name, x),
            (Layer::ChannelShuffle { groups }, &[x]) => {
                let op = shuffle(name, example(graph, x), *groups)?;
                across_channels(graph, name, x, op)
            }
            (Layer::Relu, &[x]) => graph.push_one(Op::Relu, &[x], name),
            (Layer::Activation(activation), &[x]) => graph.push_one(Op::Activation(*activation), &[x], name),
            (Layer::Softmax, &[x]) => graph.push_one(Op::Softmax, &[x], name),
            (Layer::LogSoftmax, &[x]) => graph.push_one(Op::LogSoftmax, &[x], name),
            (Layer::Dropout { rate }, &[x]) => dropout(graph, name, *rate, x, mode),
            (Layer::MaxPool2d(layer), &[x]) => {
                let op = layer.max(name, example(graph, x))?;
                graph.push_one(op, &[x], name)
            }
            (Layer::AvgPool2d(layer), &[x]) => {
                let op = layer.average(name, example(graph, x))?;
                graph.push_one(op, &[x], name)
            }
            (Layer::AdaptiveMaxPool2d(size), &[x]) => {
                let op = window::adaptive_max(name, example(graph, x), *size)?;
                graph.push_one(op, &[x], name)
            }
            (Layer::AdaptiveAvgPool2d(size), &[x]) => window::adaptive_average_of(graph, name, x, *size),
            (Layer::Upsample(layer), &[x]) => {
                let op = layer.op(name, example(graph, x))?;
                graph.push_one(op, &[x], name)
            }
            (Layer::GlobalAvgPool, &[x]) => graph.push_one(Op::GlobalAvgPool, &[x], name),
            (Layer::Flatten, &[x]) => {
                let extents = [graph.batch(), graph.at(x).elements_per_row()];
                graph.push_one(Op::Reshape(extents.to_vec()), &[x], name)
            }
            (Layer::Reshape(shape), &[x]) => {
                self.output(name, &[example(graph, x)])?;
                let extents = [&[graph.batch()], shape.as_slice()].concat();
                graph.push_one(Op::Reshape(extents), &[x], name)
            }
            _ => Err(self.wrong_operands(name, inputs.len())),
        }
    }

    /// Appends the update of running statistics, if the layer has any. Must follow the training forward pass
    /// and the loss, so that a step with a non-finite loss does not update them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the graph has no training forward pass of the layer.
    pub(crate) fn update_statistics(&self, graph: &mut Graph, name: &str) -> Result<()> {
        match self {
            Layer::BatchNorm(layer) => layer.update_statistics(graph, name),
            _ => Ok(()),
        }
    }
}

/// Returns the shape of one example of a batched value.
fn example(graph: &Graph, value: ValueId) -> &[usize] {
    graph.at(value).shape.extents().get(1..).unwrap_or(&[])
}

/// Returns the specifications of a kernel and, if `bias` is `Some(outputs)`, of a zero-initialized bias
/// `[outputs]`.
fn kernel_and_bias(
    name: &str,
    shape: Shape,
    init: Init,
    fan: [usize; 2],
    bias: Option<usize>,
) -> Result<Vec<ParameterSpec>> {
    let kind = ParameterKind::Trained;
    let mut specs = vec![ParameterSpec { path: format!("{name}.kernel"), shape, init, fan, kind }];
    if let Some(outputs) = bias {
        let shape = Shape::new([outputs])?;
        specs.push(ParameterSpec { path: format!("{name}.bias"), shape, init: Init::Zeros, fan, kind });
    }
    Ok(specs)
}

/// Appends the addition of the bias, the second of `parameters`, if the layer has one.
fn add_bias(graph: &mut Graph, name: &str, y: ValueId, parameters: &[ValueId]) -> Result<ValueId> {
    match parameters.get(1) {
        Some(&bias) => graph.push_one(Op::BiasAdd, &[y, bias], &format!("{name} bias")),
        None => Ok(y),
    }
}

/// Returns the operation of [`across_channels`] that computes channels by `rule`, and as many.
fn resample_channels(name: &str, input: &[usize], rule: ResamplingRule) -> Result<Op> {
    let &[h, w, c] = input else { return Err(not_images(name, input)) };
    let same = |size: usize, rule| Resampling { input: size, output: size, rule };
    let axes = [same(h * w, ResamplingRule::Interleave { groups: 1 }), same(c, rule)];
    axes.iter().try_for_each(|axis| axis.check(name))?;
    Ok(Op::Resample2d(Resample2d { axes, channels: 1, adjoint: false }))
}

/// Appends an operation of [`resample_channels`] on images: it has their pixels as rows, and their channels as columns.
fn across_channels(graph: &mut Graph, name: &str, x: ValueId, op: Op) -> Result<ValueId> {
    let images = graph.at(x).shape.extents().to_vec();
    let &[batch, h, w, c] = images.as_slice() else { return Err(not_images(name, &images)) };
    let rows = graph.push_one(Op::Reshape(vec![batch, h * w, c, 1]), &[x], &format!("{name} rows"))?;
    let rows = graph.push_one(op, &[rows], name)?;
    graph.push_one(Op::Reshape(images), &[rows], &format!("{name} images"))
}

/// Returns the operation of [`across_channels`] that shuffles channels.
fn shuffle(name: &str, input: &[usize], groups: usize) -> Result<Op> {
    if let &[.., c] = input
        && (groups == 0 || !c.is_multiple_of(groups))
    {
        return Err(Error::argument(name, format!("groups that divide {c} channels"), groups));
    }
    resample_channels(name, input, ResamplingRule::Interleave { groups })
}

/// Validates a dropout rate.
fn dropout_rate(name: &str, rate: f64) -> Result<()> {
    if (0.0..1.0).contains(&rate) {
        return Ok(());
    }
    Err(Error::argument(name, "a rate from 0 to below 1", rate))
}

/// Appends dropout; returns `x` itself in evaluation and for rate 0.
fn dropout(graph: &mut Graph, name: &str, rate: f64, x: ValueId, mode: Mode) -> Result<ValueId> {
    dropout_rate(name, rate)?;
    if mode == Mode::Evaluation || rate == 0.0 {
        return Ok(x);
    }
    // Dropout layers are numbered in the order of the forward pass, including those inside branches, so that
    // each has its own mask.
    let index = graph.nodes().iter().filter(|node| matches!(node.op, Op::Dropout(_))).count();
    let layer =
        u32::try_from(index).map_err(|_| Error::argument(name, "at most 2^32 dropout layers", index))?;
    graph.push_one(Op::Dropout(Dropout { rate, layer }), &[x], name)
}

/// Whether `b` has one factor for each channel of `a`: `[c]`, or an image `[1, 1, c]`.
fn has_factors(a: &[usize], b: &[usize]) -> bool {
    let of_pixels = b.len() == a.len() && b.iter().rev().skip(1).all(|&extent| extent == 1);
    a.len() > 1 && a != b && a.last() == b.last() && (b.len() == 1 || of_pixels)
}

/// Appends the product of two values, one of which may be a factor for each channel.
fn mul(graph: &mut Graph, name: &str, a: ValueId, b: ValueId) -> Result<ValueId> {
    let (a, b) = if has_factors(example(graph, b), example(graph, a)) { (b, a) } else { (a, b) };
    if !has_factors(example(graph, a), example(graph, b)) {
        return graph.push_one(Op::Mul, &[a, b], name);
    }
    let factors = match *example(graph, b) {
        [_] => b,
        _ => {
            let extents = vec![graph.batch(), graph.at(b).elements_per_row()];
            graph.push_one(Op::Reshape(extents), &[b], &format!("{name} factors"))?
        }
    };
    graph.push_one(Op::MulChannels, &[a, factors], name)
}

/// Returns the error for examples that are not images.
fn not_images(name: &str, input: &[usize]) -> Error {
    let expected = "examples of shape [h, w, c]; put the layer before any flatten or global average pool";
    Error::shape(name, expected, format!("{input:?}"))
}
