//! A fully connected layer with bias.

use super::{Gradients, Init, ParameterSpec, Taped, example, note};
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
        let mut specs = vec![ParameterSpec {
            path: format!("{name}.kernel"),
            shape: Shape::new(fan)?,
            init: self.init,
            fan,
        }];
        if self.bias {
            let shape = Shape::new([self.outputs])?;
            specs.push(ParameterSpec { path: format!("{name}.bias"), shape, init: Init::Zeros, fan });
        }
        Ok(specs)
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
        match parameters.get(1) {
            Some(&bias) => graph.push_one(Op::BiasAdd, &[y, bias], &format!("{name} bias")),
            None => Ok(y),
        }
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
        if let Some(&bias) = taped.parameters.get(1) {
            let gradient = graph.push_one(Op::BiasGrad, &[dy], &format!("{name} grad_bias"))?;
            note(graph, bias, gradient, gradients);
        }
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
