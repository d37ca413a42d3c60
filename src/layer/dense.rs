//! A fully connected layer with bias.

use super::{Gradients, Init, ParameterSpec, Taped, add_bias, bias_gradient, example, kernel_and_bias, note};
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, ValueId};
use crate::shape::Shape;

/// `x [in] * kernel [in, out] + bias [out]`. Parameters: `NAME.kernel [in, out]` and `NAME.bias [out]`.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseLayer {
    outputs: usize,
    bias: bool,
    init: Init,
}

impl DenseLayer {
    /// `outputs` outputs, with bias, Glorot's uniform initialiser.
    pub fn new(outputs: usize) -> Self {
        DenseLayer { outputs, bias: true, init: Init::GlorotUniform }
    }

    /// Whether a bias is added.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// How the kernel begins; the bias begins at 0.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    pub(super) fn output(&self, name: &str, input: &[usize]) -> Result<Vec<usize>> {
        if self.outputs == 0 {
            return Err(Error::argument(name, "1 output or more", 0));
        }
        match input {
            [_] => Ok(vec![self.outputs]),
            _ => {
                Err(Error::shape(name, "examples of shape [n] (put a flatten before)", format!("{input:?}")))
            }
        }
    }

    pub(super) fn parameters(&self, name: &str, input: &[usize]) -> Result<Vec<ParameterSpec>> {
        self.output(name, input)?;
        let fan = [input[0], self.outputs];
        kernel_and_bias(name, Shape::new(fan)?, self.init.clone(), fan, self.bias.then_some(self.outputs))
    }

    pub(super) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        parameters: &[ValueId],
    ) -> Result<ValueId> {
        self.output(name, example(graph, x))?;
        let product = Op::MatMul { transpose_a: false, transpose_b: false };
        let y = graph.push_one(product, &[x, parameters[0]], name)?;
        add_bias(graph, name, y, parameters)
    }

    pub(super) fn backward(
        &self,
        graph: &mut Graph,
        name: &str,
        taped: &Taped,
        dy: ValueId,
        wanted: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<ValueId>> {
        bias_gradient(graph, name, taped, dy, gradients)?;
        let kernel = taped.parameters[0];
        let outer = Op::MatMul { transpose_a: true, transpose_b: false };
        let gradient = graph.push_one(outer, &[taped.input, dy], &format!("{name} grad_kernel"))?;
        note(graph, kernel, gradient, gradients);
        if !wanted {
            return Ok(None);
        }
        let back = Op::MatMul { transpose_a: false, transpose_b: true };
        graph.push_one(back, &[dy, kernel], &format!("{name} grad_input")).map(Some)
    }
}
