//! Gradients: the adjoint of every operation.

use super::sweep::{Gradient, Sweep};
use super::{Activation, DType, Graph, Node, Op, ValueId};
use crate::error::{Error, Result};

impl Graph {
    /// Appends the operations that compute the gradient of a loss in each value of `wanted`; gives those gradients in the order
    /// of `wanted`, each of the shape of its value. Only what these gradients need is appended.
    ///
    /// Minimised is the mean of `loss` over its elements in use: the result of [`Op::Metrics`] itself, which is one number, or
    /// the mean over the batch of losses `[n]`. A wanted value may be a parameter, an input or a computed value. Where a value
    /// has several uses, their gradients are added by [`Op::Add`] in the order of the uses.
    ///
    /// Labels of what is appended are those of the operation, then `grad_input`, `grad_kernel`, `grad_bias` and so on.
    ///
    /// ```
    /// use frazil::graph::{DType, Graph, Op};
    /// use frazil::shape::Shape;
    ///
    /// let mut graph = Graph::new(8)?;
    /// let x = graph.batch_input("x", &[3], DType::F32)?;
    /// let target = graph.batch_input("target", &[2], DType::F32)?;
    /// let w = graph.parameter("w", Shape::new([3, 2])?)?;
    /// let y = graph.push_one(Op::MatMul { transpose_a: false, transpose_b: false }, &[x, w], "y")?;
    /// let loss = graph.push_one(Op::MeanSquaredError, &[y, target], "loss")?;
    /// let gradients = graph.backward(loss, &[w, x])?;
    /// assert_eq!(graph.value(gradients[1]).unwrap().shape.extents(), [8, 3]);
    /// # Ok::<(), frazil::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoGradient`] for a wanted value on which the loss does not depend, or only through labels and other operands
    /// without a derivative; [`Error::NoAdjoint`] where a gradient would have to pass through an operation without one;
    /// [`Error::InvalidArgument`] for values of another graph or of integers, and where a parameter was updated after the loss
    /// was computed from it. The graph is then as it was.
    pub fn backward(&mut self, loss: ValueId, wanted: &[ValueId]) -> Result<Vec<ValueId>> {
        for id in wanted.iter().chain([&loss]) {
            match self.values.get(id.0) {
                None => {
                    return Err(Error::argument("Graph::backward", "values of this graph", "one of another"));
                }
                Some(value) if value.dtype != DType::F32 => {
                    return Err(Error::argument(&value.name, "a value of floats", "one of integers"));
                }
                Some(_) => {}
            }
        }
        let (values, nodes) = (self.values.len(), self.nodes.len());
        let gradients = Sweep::new(self, loss, wanted).run(loss, wanted);
        if gradients.is_err() {
            self.values.truncate(values);
            self.nodes.truncate(nodes);
        }
        gradients
    }
}

/// What passes the gradient of one node's result on.
pub(super) struct Adjoint<'s, 'g> {
    pub sweep: &'s mut Sweep<'g>,
    pub node: &'s Node,
    /// The node's number.
    pub at: usize,
}

impl Adjoint<'_, '_> {
    /// Adds the terms of the operands' gradients that the gradient of the node's result gives.
    pub fn pass(&mut self, dy: Gradient) -> Result<()> {
        match dy {
            Gradient::Mean { factor, weights } if self.of_mean(factor, weights)? => Ok(()),
            _ => {
                let dy = self.sweep.computed(self.node.outputs[0], dy)?;
                self.of_value(dy)
            }
        }
    }

    /// Passes on `factor` times the gradient of a mean without computing it, or computes it together with the operation's own;
    /// `false` if it must be computed first.
    fn of_mean(&mut self, factor: f64, weights: Option<[ValueId; 2]>) -> Result<bool> {
        let node = self.node;
        let mean = |factor: f64| Gradient::Mean { factor, weights };
        match &node.op {
            Op::Add => {
                self.term(0, mean(factor));
                self.term(1, mean(factor));
            }
            Op::Scale(by) => self.term(0, mean(by * factor)),
            // The mean over means of equally many elements, and over the same elements.
            Op::GlobalAvgPool | Op::Reshape(_) => self.term(0, mean(factor)),
            Op::Metrics => {
                // Logits and labels are only counted.
                let weights = node.inputs.get(3).map(|&of_classes| [node.inputs[2], of_classes]);
                self.term(0, Gradient::Mean { factor, weights });
            }
            Op::SoftmaxCrossEntropy { smoothing } => {
                if node.inputs.get(2).map(|&of_classes| [node.inputs[1], of_classes]) != weights {
                    return Err(
                        self.error("its class weights must be those of the mean, given to Op::Metrics")
                    );
                }
                self.refuse(2)?;
                let op = Op::SoftmaxCrossEntropyGrad { smoothing: *smoothing };
                self.scaled_push(0, op, &node.inputs, factor, "grad")?;
            }
            Op::MeanSquaredError if weights.is_none() => {
                let [y, targets] = [node.inputs[0], node.inputs[1]];
                self.scaled_push(0, Op::MeanSquaredErrorGrad, &[y, targets], factor, "grad")?;
                self.scaled_push(1, Op::MeanSquaredErrorGrad, &[targets, y], factor, "grad_targets")?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Appends the adjoint: from the gradient `dy` of the result those of the operands.
    fn of_value(&mut self, dy: ValueId) -> Result<()> {
        let node = self.node;
        let (i, y) = (|operand: usize| node.inputs[operand], node.outputs[0]);
        match &node.op {
            Op::Conv2d(c) => {
                self.push(1, Op::Conv2dGradKernel(*c), &[i(0), dy], "grad_kernel")?;
                self.push(0, Op::Conv2dGradInput(*c), &[dy, i(1)], "grad_input")
            }
            // The gradients of a convolution are linear in each operand as well, with the operands' roles exchanged.
            Op::Conv2dGradInput(c) => {
                self.push(1, Op::Conv2dGradKernel(*c), &[dy, i(0)], "grad_kernel")?;
                self.push(0, Op::Conv2d(*c), &[dy, i(1)], "grad_input")
            }
            Op::Conv2dGradKernel(c) => {
                self.push(1, Op::Conv2d(*c), &[i(0), dy], "grad_dy")?;
                self.push(0, Op::Conv2dGradInput(*c), &[i(1), dy], "grad_input")
            }
            &Op::MatMul { transpose_a, transpose_b } => {
                let product = |transpose_a, transpose_b| Op::MatMul { transpose_a, transpose_b };
                // C = A B: dB = A' dC and dA = dC B', each transposed where the operand is stored so.
                if transpose_b {
                    self.push(1, product(true, transpose_a), &[dy, i(0)], "grad_kernel")?;
                } else {
                    self.push(1, product(!transpose_a, false), &[i(0), dy], "grad_kernel")?;
                }
                if transpose_a {
                    self.push(0, product(transpose_b, true), &[i(1), dy], "grad_input")
                } else {
                    self.push(0, product(false, !transpose_b), &[dy, i(1)], "grad_input")
                }
            }
            Op::BiasAdd => {
                self.push(1, Op::BiasGrad, &[dy], "grad_bias")?;
                self.term(0, Gradient::Computed(dy));
                Ok(())
            }
            Op::Add => {
                self.term(0, Gradient::Computed(dy));
                self.term(1, Gradient::Computed(dy));
                Ok(())
            }
            Op::Mul => {
                self.push(0, Op::Mul, &[dy, i(1)], "grad_a")?;
                self.push(1, Op::Mul, &[dy, i(0)], "grad_b")
            }
            Op::Scale(factor) => self.push(0, Op::Scale(*factor), &[dy], "grad_input"),
            // It does not depend on the elements, only on their number.
            Op::MeanGrad => Ok(()),
            Op::Relu => self.push(0, Op::ReluGrad, &[y, dy], "grad_input"),
            // Linear in dy; constant in y but for the step at 0.
            Op::ReluGrad => self.push(1, Op::ReluGrad, &[i(0), dy], "grad_dy"),
            Op::Activation(a) => self.push(0, Op::ActivationGrad(*a), &[i(0), dy], "grad_input"),
            Op::ActivationGrad(a) => {
                if !matches!(a, Activation::LeakyRelu { .. } | Activation::Clamp { .. }) {
                    self.refuse(0)?;
                }
                self.push(1, Op::ActivationGrad(*a), &[i(0), dy], "grad_dy")
            }
            Op::Softmax => self.push(0, Op::SoftmaxGrad, &[y, dy], "grad_input"),
            // The Jacobian of softmax is symmetric.
            Op::SoftmaxGrad => {
                self.refuse(0)?;
                self.push(1, Op::SoftmaxGrad, &[i(0), dy], "grad_dy")
            }
            Op::Dropout(d) => self.push(0, Op::Dropout(*d), &[dy], "grad_input"),
            Op::MaxPool2d(p) => self.push(0, Op::MaxPool2dGrad(*p), &[node.outputs[1], dy], "grad_input"),
            Op::AvgPool2d(p) => self.push(0, Op::AvgPool2dGrad(*p), &[dy], "grad_input"),
            Op::AvgPool2dGrad(p) => self.push(0, Op::AvgPool2d(*p), &[dy], "grad_input"),
            Op::GlobalAvgPool => {
                let x = self.sweep.graph.at(i(0)).shape.extents();
                let pixels = [x[1], x[2]];
                self.push(0, Op::GlobalAvgPoolGrad(pixels), &[dy], "grad_input")
            }
            Op::GlobalAvgPoolGrad(_) => self.push(0, Op::GlobalAvgPool, &[dy], "grad_input"),
            Op::Reshape(_) => {
                let extents = self.sweep.graph.at(i(0)).shape.extents().to_vec();
                self.push(0, Op::Reshape(extents), &[dy], "grad_input")
            }
            Op::BatchNorm { epsilon } => self.batch_norm(dy, *epsilon),
            Op::SoftmaxCrossEntropy { .. } | Op::MeanSquaredError | Op::Metrics => {
                Err(self.error("only constant multiples of its mean, and sums of such, have a gradient"))
            }
            Op::BiasGrad
            | Op::MaxPool2dGrad(_)
            | Op::SoftmaxCrossEntropyGrad { .. }
            | Op::MeanSquaredErrorGrad
            | Op::BatchStatistics { .. }
            | Op::BatchNormGradScale
            | Op::BatchNormGradInput
            | Op::UpdateStatistics(..)
            | Op::Accumulate(_)
            | Op::Clip(..)
            | Op::Update(..) => Err(self.error("its adjoint is not implemented")),
        }
    }

    /// Of a batch norm: through the statistics of the batch as well, where it is normalised by its own.
    fn batch_norm(&mut self, dy: ValueId, epsilon: Option<f64>) -> Result<()> {
        let node = self.node;
        let [x, scale, shift, mean, spread] = [0, 1, 2, 3, 4].map(|operand| node.inputs[operand]);
        let nodes = &self.sweep.graph.nodes;
        let statistics = self.sweep.producers[mean.0].map(|at| &nodes[at]).filter(|of| {
            let same = of.inputs.first() == Some(&x) && of.outputs.get(..2) == Some(&[mean, spread]);
            same && epsilon.is_none() && matches!(of.op, Op::BatchStatistics { .. })
        });
        if statistics.is_some() {
            let through = self.wants(0);
            let (of_scale, of_shift) = ("grad_scale", "grad_shift");
            if !through {
                self.push(1, Op::BatchNormGradScale, &[x, dy, mean, spread], of_scale)?;
                return self.push(2, Op::BiasGrad, &[dy], of_shift);
            }
            // The gradient of x is made of the others.
            let dscale = self.append(Op::BatchNormGradScale, &[x, dy, mean, spread], of_scale)?;
            let dshift = self.append(Op::BiasGrad, &[dy], of_shift)?;
            self.term(1, Gradient::Computed(dscale));
            self.term(2, Gradient::Computed(dshift));
            let operands = [x, dy, scale, mean, spread, dscale, dshift];
            return self.push(0, Op::BatchNormGradInput, &operands, "grad_input");
        }
        self.refuse(3)?;
        self.refuse(4)?;
        if epsilon.is_none() {
            self.push(1, Op::BatchNormGradScale, &[x, dy, mean, spread], "grad_scale")?;
        } else {
            self.refuse(1)?;
        }
        self.push(2, Op::BiasGrad, &[dy], "grad_shift")?;
        if self.wants(0) {
            // The statistics are constants: dy * scale / deviation, a batch norm with mean and shift 0.
            let zero = self.append(Op::Scale(0.0), &[shift], "zero")?;
            let op = Op::BatchNorm { epsilon };
            self.push(0, op, &[dy, scale, zero, zero, spread], "grad_input")?;
        }
        Ok(())
    }

    /// Whether the gradient of an operand is needed.
    fn wants(&self, operand: usize) -> bool {
        self.node.inputs.get(operand).is_some_and(|id| self.sweep.needed[id.0])
    }

    /// Adds a term to the gradient of an operand, if that is needed.
    fn term(&mut self, operand: usize, gradient: Gradient) {
        self.sweep.term(self.at, operand, gradient);
    }

    /// Appends an operation under the node's label and `what`. The bias of a layer is an operation of its own, `NAME bias`, and
    /// its gradient `NAME grad_bias`.
    fn append(&mut self, op: Op, inputs: &[ValueId], what: &str) -> Result<ValueId> {
        let label = &self.node.label;
        let name = if self.node.op == Op::BiasAdd { label.strip_suffix(" bias") } else { None };
        self.sweep.graph.push_one(op, inputs, &format!("{} {what}", name.unwrap_or(label)))
    }

    /// Appends the operation whose result is a term of the gradient of an operand, if that is needed.
    fn push(&mut self, operand: usize, op: Op, inputs: &[ValueId], what: &str) -> Result<()> {
        self.scaled_push(operand, op, inputs, 1.0, what)
    }

    /// [`Adjoint::push`], and the result is multiplied by `factor`.
    fn scaled_push(
        &mut self,
        operand: usize,
        op: Op,
        inputs: &[ValueId],
        factor: f64,
        what: &str,
    ) -> Result<()> {
        if self.wants(operand) {
            let made = self.append(op, inputs, what)?;
            let made = self.sweep.scaled(made, factor, &format!("{} {what}", self.node.label))?;
            self.term(operand, Gradient::Computed(made));
        }
        Ok(())
    }

    /// Fails if the gradient of an operand is needed.
    fn refuse(&self, operand: usize) -> Result<()> {
        if !self.wants(operand) {
            return Ok(());
        }
        Err(self.error(match operand {
            0 => "the gradient of its first operand is not implemented",
            1 => "the gradient of its second operand is not implemented",
            2 => "the gradient of its third operand is not implemented",
            _ => "the gradient of its statistics is not implemented",
        }))
    }

    fn error(&self, why: &'static str) -> Error {
        Error::NoAdjoint { label: self.node.label.clone(), op: self.node.op.name(), why }
    }
}
