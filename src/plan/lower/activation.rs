//! Activations and softmax.

use super::{Lowering, Place, extent};
use crate::error::Result;
use crate::graph::{Activation, Node, Op};
use crate::kernels::{Curve, activation, activation_grad, softmax, softmax_grad};

fn curve(activation: Activation) -> Curve {
    match activation {
        Activation::LeakyRelu { slope } => Curve::LeakyRelu(slope),
        Activation::Clamp { limit } => Curve::Clamp(limit),
        Activation::Sigmoid => Curve::Sigmoid,
        Activation::Tanh => Curve::Tanh,
        Activation::Gelu => Curve::Gelu,
        Activation::GeluTanh => Curve::GeluTanh,
    }
}

impl Lowering<'_> {
    pub(super) fn activation(&mut self, node: &Node) -> Result<()> {
        let x = self.value(node.inputs[0]);
        let launch = match node.op {
            Op::Activation(of) => activation(extent(x), curve(of)),
            Op::ActivationGrad(of) => activation_grad(extent(x), curve(of)),
            _ => {
                let [rows, classes] = x.shape.matrix(&node.label)?;
                if node.op == Op::Softmax { softmax(rows, classes) } else { softmax_grad(rows, classes) }
            }
        };
        let places = node.inputs.iter().chain(&node.outputs).map(|&id| Place::Value(id)).collect();
        self.push(node, launch, places);
        Ok(())
    }
}
