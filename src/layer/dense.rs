//! Fully connected layer.

use super::{Init, ParameterSpec, add_bias, example, kernel_and_bias};
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, ValueId};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// Fully connected layer, `y = x * kernel + bias`, for examples of shape `[in]`.
///
/// Parameters: `NAME.kernel [in, out]` and `NAME.bias [out]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DenseLayer {
    outputs: usize,
    bias: bool,
    /// `None` until it is set or chosen by what follows the layer.
    #[serde(skip)]
    init: Option<Init>,
}

impl DenseLayer {
    /// A layer with `outputs` outputs. Defaults: with bias, [`Init`] by what
    /// follows the layer.
    pub fn new(outputs: usize) -> Self {
        DenseLayer { outputs, bias: true, init: None }
    }

    /// Sets whether a bias is added.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Sets the initializer of the kernel, instead of the [default](Init#default); the bias is initialized to 0.
    pub fn init(mut self, init: Init) -> Self {
        self.init = Some(init);
        self
    }

    /// Sets the number of outputs.
    pub(super) fn with_outputs(mut self, outputs: usize) -> Self {
        self.outputs = outputs;
        self
    }

    /// Sets the initializer of the kernel unless there is one.
    pub(super) fn default_init(&mut self, init: Init) {
        self.init.get_or_insert(init);
    }

    pub(super) fn output(&self, name: &str, input: &[usize]) -> Result<Vec<usize>> {
        if self.outputs == 0 {
            return Err(Error::argument(name, "1 output or more", 0));
        }
        match input {
            [_] => Ok(vec![self.outputs]),
            _ => Err(Error::shape(
                name,
                "examples of shape [n] (add a flatten before it)",
                format!("{input:?}"),
            )),
        }
    }

    pub(super) fn parameters(&self, name: &str, input: &[usize]) -> Result<Vec<ParameterSpec>> {
        self.output(name, input)?;
        let fan = [input[0], self.outputs];
        kernel_and_bias(
            name,
            Shape::new(fan)?,
            self.init.clone().unwrap_or(Init::GlorotUniform),
            fan,
            self.bias.then_some(self.outputs),
        )
    }

    pub(super) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        parameters: &[ValueId],
    ) -> Result<ValueId> {
        self.output(name, example(graph, x))?;
        let matmul = Op::MatMul { transpose_a: false, transpose_b: false };
        let y = graph.push_one(matmul, &[x, parameters[0]], name)?;
        add_bias(graph, name, y, parameters)
    }
}
