//! Layers: parameters, output shape and forward operations. Gradients come from [`Graph::backward`].

mod batch_norm;
mod dense;
mod init;
mod sequence;
mod window;

pub use batch_norm::BatchNormLayer;
pub use dense::DenseLayer;
pub use init::Init;
pub use sequence::ResidualLayer;
pub(crate) use sequence::{Sequence, choose_initializers};
pub use window::{Conv2dLayer, Pool2dLayer};

use crate::error::{Error, Result};
use crate::graph::{Activation, Dropout, Graph, Op, ParameterKind, ValueId};
use crate::shape::Shape;

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
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// 2-D convolution.
    Conv2d(Conv2dLayer),
    /// Fully connected layer.
    Dense(DenseLayer),
    /// Batch normalization.
    BatchNorm(BatchNormLayer),
    /// Sum of two branches.
    Residual(ResidualLayer),
    /// `max(x, 0)`.
    Relu,
    /// Other elementwise activation.
    Activation(Activation),
    /// Softmax over the classes. For inference only: losses take logits.
    Softmax,
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
    /// Global average pooling, `[h, w, c]` to `[c]`.
    GlobalAvgPool,
    /// Reshape of `[h, w, c]` to `[h*w*c]`, row-major.
    Flatten,
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
    /// Returns the output shape for one example of shape `input`; error messages contain `name`, the layer's
    /// name.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the layer does not accept the shape; [`Error::InvalidArgument`] for an
    /// invalid setting.
    pub fn output(&self, name: &str, input: &[usize]) -> Result<Vec<usize>> {
        match self {
            Layer::Conv2d(layer) => {
                let conv = layer.resolve(name, input)?;
                Ok(vec![conv.window.output[0], conv.window.output[1], conv.c_out])
            }
            Layer::Dense(layer) => layer.output(name, input),
            Layer::BatchNorm(layer) => layer.output(name, input),
            Layer::Residual(layer) => Ok(layer.infer(name, input)?.0),
            Layer::Relu | Layer::Activation(_) | Layer::Softmax => Ok(input.to_vec()),
            Layer::Dropout { rate } => dropout_rate(name, *rate).map(|()| input.to_vec()),
            Layer::MaxPool2d(layer) | Layer::AvgPool2d(layer) => {
                let pool = layer.resolve(name, input)?;
                Ok(vec![pool.window.output[0], pool.window.output[1], pool.channels])
            }
            Layer::GlobalAvgPool => match *input {
                [_, _, channels] => Ok(vec![channels]),
                _ => Err(not_images(name, input)),
            },
            Layer::Flatten => Ok(vec![Shape::new(input)?.elements()]),
        }
    }

    /// Returns the parameters for examples of shape `input`, with paths that begin with `name`.
    ///
    /// # Errors
    /// As [`Layer::output`].
    pub fn parameters(&self, name: &str, input: &[usize]) -> Result<Vec<ParameterSpec>> {
        match self {
            Layer::Conv2d(layer) => layer.parameters(name, input),
            Layer::Dense(layer) => layer.parameters(name, input),
            Layer::BatchNorm(layer) => layer.parameters(name, input),
            Layer::Residual(layer) => Ok(layer.infer(name, input)?.1),
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

    /// Calls `change` with each batch norm of the layer, including those of branches, and its path, which is
    /// or begins with `path`.
    pub(crate) fn change_batch_norms(
        &mut self,
        path: &str,
        change: &mut dyn FnMut(&str, &mut BatchNormLayer),
    ) {
        match self {
            Layer::BatchNorm(layer) => change(path, layer),
            Layer::Residual(layer) => layer.change_batch_norms(path, change),
            _ => {}
        }
    }

    /// Returns the output shape and the parameters for examples of shape `input`.
    fn infer(&self, name: &str, input: &[usize]) -> Result<(Vec<usize>, Vec<ParameterSpec>)> {
        match self {
            // One call for both, so that each level of nested residual layers is visited once.
            Layer::Residual(layer) => layer.infer(name, input),
            _ => Ok((self.output(name, input)?, self.parameters(name, input)?)),
        }
    }

    /// Returns whether the output in training depends only on the example and the parameters: no random
    /// numbers, no statistics over the batch.
    pub(crate) fn is_fixed(&self) -> bool {
        match self {
            Layer::Dropout { rate } => *rate == 0.0,
            Layer::BatchNorm(layer) => layer.is_fixed(),
            Layer::Residual(layer) => layer.is_fixed(),
            _ => true,
        }
    }

    /// Appends the forward operations and returns the output. Takes the values of [`Layer::parameters`] from
    /// the beginning of `parameters`.
    ///
    /// # Errors
    /// As [`Layer::output`].
    pub(crate) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        parameters: &mut &[ValueId],
        mode: Mode,
    ) -> Result<ValueId> {
        // The parameters of this layer alone; a residual layer leaves them to the layers inside.
        let own = match self {
            Layer::Residual(_) => &[],
            _ => {
                let count = self.parameters(name, example(graph, x))?.len();
                let (own, others) = parameters
                    .split_at_checked(count)
                    .ok_or_else(|| Error::argument(name, format!("{count} parameters"), parameters.len()))?;
                *parameters = others;
                own
            }
        };
        match self {
            Layer::Conv2d(layer) => layer.forward(graph, name, x, own),
            Layer::Dense(layer) => layer.forward(graph, name, x, own),
            Layer::BatchNorm(layer) => layer.forward(graph, name, x, own, mode),
            Layer::Residual(layer) => layer.forward(graph, name, x, parameters, mode),
            Layer::Relu => graph.push_one(Op::Relu, &[x], name),
            Layer::Activation(activation) => graph.push_one(Op::Activation(*activation), &[x], name),
            Layer::Softmax => graph.push_one(Op::Softmax, &[x], name),
            Layer::Dropout { rate } => dropout(graph, name, *rate, x, mode),
            Layer::MaxPool2d(layer) => {
                let pool = layer.resolve(name, example(graph, x))?;
                graph.push_one(Op::MaxPool2d(pool), &[x], name)
            }
            Layer::AvgPool2d(layer) => {
                let pool = layer.resolve(name, example(graph, x))?;
                graph.push_one(Op::AvgPool2d(pool), &[x], name)
            }
            Layer::GlobalAvgPool => graph.push_one(Op::GlobalAvgPool, &[x], name),
            Layer::Flatten => {
                let extents = [graph.batch(), graph.at(x).elements_per_row()];
                graph.push_one(Op::Reshape(extents.to_vec()), &[x], name)
            }
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
            Layer::Residual(layer) => layer.update_statistics(graph, name),
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

/// Returns the error for examples that are not images.
fn not_images(name: &str, input: &[usize]) -> Error {
    let expected = "examples of shape [h, w, c]; put the layer before any flatten or global average pool";
    Error::shape(name, expected, format!("{input:?}"))
}
