//! Layers: each says which parameters it has, what shape it gives, and which forward operations it is made of. Gradients come
//! from [`Graph::backward`].

mod batch_norm;
mod conv2d;
mod dense;
mod dropout;
mod init;
mod pool2d;
mod residual;
mod sequence;

pub use batch_norm::BatchNormLayer;
pub use conv2d::Conv2dLayer;
pub use dense::DenseLayer;
pub use init::Init;
pub use pool2d::Pool2dLayer;
pub use residual::ResidualLayer;
pub(crate) use sequence::Sequence;

use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, Op, ParameterKind, ValueId};
use crate::shape::Shape;

/// What a graph is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Training: statistics are those of the batch.
    Training,
    /// Evaluation: the running statistics are used.
    Evaluation,
}

/// One step of a model from input to output.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// 2-D convolution.
    Conv2d(Conv2dLayer),
    /// A matrix product with the flattened example.
    Dense(DenseLayer),
    /// Batch norm.
    BatchNorm(BatchNormLayer),
    /// Two branches, added.
    Residual(ResidualLayer),
    /// `max(x, 0)`.
    Relu,
    /// Another activation.
    Activation(Activation),
    /// Softmax over the classes, for inference: losses take logits.
    Softmax,
    /// Zeroes a random share of the elements in training, and scales the others up.
    Dropout {
        /// The share of elements that become 0, in `[0, 1)`.
        rate: f64,
    },
    /// Max-pooling.
    MaxPool2d(Pool2dLayer),
    /// Average pooling.
    AvgPool2d(Pool2dLayer),
    /// `[h, w, c]` to `[c]`: the mean over the pixels.
    GlobalAvgPool,
    /// `[h, w, c]` to `[h*w*c]`, row-major.
    Flatten,
}

/// A tensor that a layer keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// `conv1.kernel`, ...
    pub path: String,
    /// Its shape.
    pub shape: Shape,
    /// How it begins.
    pub init: Init,
    /// Inputs and outputs of one unit, for the initialiser's scale.
    pub fan: [usize; 2],
    /// What changes it.
    pub kind: ParameterKind,
}

impl Layer {
    /// The shape of one example after the layer.
    ///
    /// # Errors
    /// [`crate::Error::ShapeMismatch`], [`crate::Error::InvalidArgument`], naming the layer.
    pub fn output(&self, name: &str, input: &[usize]) -> Result<Vec<usize>> {
        match self {
            Layer::Conv2d(layer) => {
                let conv = layer.place(name, input)?;
                Ok(vec![conv.window.output[0], conv.window.output[1], conv.c_out])
            }
            Layer::Dense(layer) => layer.output(name, input),
            Layer::BatchNorm(layer) => layer.output(name, input),
            Layer::Residual(layer) => layer.output(name, input),
            Layer::Relu | Layer::Activation(_) | Layer::Softmax => Ok(input.to_vec()),
            Layer::Dropout { rate } => dropout::check(name, *rate).map(|()| input.to_vec()),
            Layer::MaxPool2d(layer) | Layer::AvgPool2d(layer) => {
                let pool = layer.place(name, input)?;
                Ok(vec![pool.window.output[0], pool.window.output[1], pool.channels])
            }
            Layer::GlobalAvgPool => match *input {
                [_, _, channels] => Ok(vec![channels]),
                _ => Err(Error::shape(name, "images [h, w, channels]", format!("{input:?}"))),
            },
            Layer::Flatten => Ok(vec![Shape::new(input)?.elements()]),
        }
    }

    /// The layer's parameters.
    ///
    /// # Errors
    /// As [`Layer::output`].
    pub fn parameters(&self, name: &str, input: &[usize]) -> Result<Vec<ParameterSpec>> {
        match self {
            Layer::Conv2d(layer) => layer.parameters(name, input),
            Layer::Dense(layer) => layer.parameters(name, input),
            Layer::BatchNorm(layer) => layer.parameters(name, input),
            Layer::Residual(layer) => layer.parameters(name, input),
            Layer::Relu
            | Layer::Activation(_)
            | Layer::Softmax
            | Layer::Dropout { .. }
            | Layer::MaxPool2d(_)
            | Layer::AvgPool2d(_)
            | Layer::GlobalAvgPool
            | Layer::Flatten => Ok(Vec::new()),
        }
    }

    /// Whether in training its results depend on its input and its parameters alone: not on what is drawn, nor on the other examples of
    /// a batch.
    pub(crate) fn is_fixed(&self) -> bool {
        match self {
            Layer::Dropout { rate } => *rate == 0.0,
            Layer::BatchNorm(_) => false,
            Layer::Residual(layer) => layer.is_fixed(),
            _ => true,
        }
    }

    /// Appends the forward operations; `parameters` are the values of [`Layer::parameters`].
    ///
    /// # Errors
    /// As [`Layer::output`].
    pub(crate) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        parameters: &[ValueId],
        mode: Mode,
    ) -> Result<ValueId> {
        match self {
            Layer::Conv2d(layer) => layer.forward(graph, name, x, parameters),
            Layer::Dense(layer) => layer.forward(graph, name, x, parameters),
            Layer::BatchNorm(layer) => layer.forward(graph, name, x, parameters, mode),
            Layer::Residual(layer) => layer.forward(graph, name, x, parameters, mode),
            Layer::Relu => graph.push_one(Op::Relu, &[x], name),
            Layer::Activation(of) => graph.push_one(Op::Activation(*of), &[x], name),
            Layer::Softmax => graph.push_one(Op::Softmax, &[x], name),
            Layer::Dropout { rate } => dropout::forward(graph, name, *rate, x, mode),
            Layer::MaxPool2d(layer) => {
                let pool = layer.place(name, example(graph, x))?;
                graph.push_one(Op::MaxPool2d(pool), &[x], name)
            }
            Layer::AvgPool2d(layer) => {
                let pool = layer.place(name, example(graph, x))?;
                graph.push_one(Op::AvgPool2d(pool), &[x], name)
            }
            Layer::GlobalAvgPool => graph.push_one(Op::GlobalAvgPool, &[x], name),
            Layer::Flatten => {
                let extents = [graph.batch(), graph.at(x).elements_per_row()];
                graph.push_one(Op::Reshape(extents.to_vec()), &[x], name)
            }
        }
    }

    /// Appends the update of running statistics, if the layer has any, to a forward pass of training. It belongs after the loss:
    /// a step whose loss is not finite moves no statistic.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] without such a forward pass.
    pub(crate) fn update_statistics(&self, graph: &mut Graph, name: &str) -> Result<()> {
        match self {
            Layer::BatchNorm(layer) => layer.update_statistics(graph, name),
            Layer::Residual(layer) => layer.update_statistics(graph, name),
            _ => Ok(()),
        }
    }
}

/// The extents of one example of a batched value.
fn example(graph: &Graph, value: ValueId) -> &[usize] {
    graph.at(value).shape.extents().get(1..).unwrap_or(&[])
}

/// The parameters of a layer with a kernel, and a bias of `outputs` elements that begins at 0.
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

/// Adds the bias, if the layer has one.
fn add_bias(graph: &mut Graph, name: &str, y: ValueId, parameters: &[ValueId]) -> Result<ValueId> {
    match parameters.get(1) {
        Some(&bias) => graph.push_one(Op::BiasAdd, &[y, bias], &format!("{name} bias")),
        None => Ok(y),
    }
}
