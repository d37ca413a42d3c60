//! Reverse-mode differentiation: [`Graph::backward`] and the adjoint of every operation.

use super::sweep::{Gradient, Sweep};
use super::{Activation, DType, Graph, Node, Op, ValueId};
use crate::error::{Error, Result};

impl Graph {
    /// Appends the operations that compute the gradients of a loss with respect to the values `wanted`;
    /// returns one gradient per wanted value, in the same order and of the same shape.
    ///
    /// Differentiated is the mean of `loss` over its elements in use: the result of [`Op::Metrics`] itself, a
    /// single number, or the mean over the batch of losses `[n]`. A wanted value may be a parameter, an input
    /// or a computed value. Only operations that these gradients depend on are appended. The gradients of
    /// several uses of a value are summed by [`Op::Add`] in the order of the uses.
    ///
    /// Appended operations are labelled with the label of the forward operation followed by `grad_input`,
    /// `grad_kernel`, `grad_bias` and so on.
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
    /// - [`Error::NoGradient`] if the loss does not depend on a wanted value, or only through labels or other
    ///   operands without a derivative.
    /// - [`Error::NoAdjoint`] if a gradient would have to pass through an operation without an implemented
    ///   adjoint.
    /// - [`Error::InvalidArgument`] for values of another graph, for integer values, and if a parameter is
    ///   updated between the operation that reads it and this call.
    ///
    /// On error the graph is unchanged.
    pub fn backward(&mut self, loss: ValueId, wanted: &[ValueId]) -> Result<Vec<ValueId>> {
        for id in wanted.iter().chain([&loss]) {
            match self.values.get(id.0) {
                None => return Err(super::foreign_value("Graph::backward")),
                Some(value) if value.dtype != DType::F32 => {
                    return Err(Error::argument(&value.name, "an F32 value", value.dtype));
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

/// The adjoint of one node: maps the gradient of its result to the gradients of its operands.
pub(super) struct Adjoint<'s, 'g> {
    pub sweep: &'s mut Sweep<'g>,
    pub node: &'s Node,
    /// Index of the node in the graph.
    pub index: usize,
}

impl Adjoint<'_, '_> {
    /// Adds the contributions of the result's gradient `dy` to the operands' gradients.
    pub fn propagate(&mut self, dy: Gradient) -> Result<()> {
        match dy {
            Gradient::Mean { factor, weights } if self.propagate_mean(factor, weights)? => Ok(()),
            _ => {
                let dy = self.sweep.materialize(self.node.outputs[0], dy)?;
                self.propagate_value(dy)
            }
        }
    }

    /// Propagates `factor` times the gradient of a mean without materializing it: forwards it to the
    /// operands, or fuses it with the gradient of a loss. Returns `false` if the operation needs the
    /// materialized gradient.
    fn propagate_mean(&mut self, factor: f64, weights: Option<[ValueId; 2]>) -> Result<bool> {
        let node = self.node;
        let mean = |factor: f64| Gradient::Mean { factor, weights };
        match &node.op {
            Op::Add => {
                self.term(0, mean(factor));
                self.term(1, mean(factor));
            }
            Op::Scale(by) => self.term(0, mean(by * factor)),
            // The mean of means over equally many elements, and the mean over the same elements, are the same
            // mean.
            Op::GlobalAvgPool | Op::Reshape(_) => self.term(0, mean(factor)),
            Op::Metrics => {
                // Logits and labels only enter the running counts.
                let weights = node.inputs.get(3).map(|&class_weights| [node.inputs[2], class_weights]);
                self.term(0, Gradient::Mean { factor, weights });
            }
            Op::SoftmaxCrossEntropy { smoothing } => {
                if node.inputs.get(2).map(|&class_weights| [node.inputs[1], class_weights]) != weights {
                    return Err(self.error("its class weights must also be operands of Op::Metrics"));
                }
                self.reject_gradient(2)?;
                let op = Op::SoftmaxCrossEntropyGrad { smoothing: *smoothing };
                self.push_scaled(0, op, &node.inputs, factor, "grad")?;
            }
            Op::MeanSquaredError if weights.is_none() => {
                let [y, targets] = [node.inputs[0], node.inputs[1]];
                self.push_scaled(0, Op::MeanSquaredErrorGrad, &[y, targets], factor, "grad")?;
                self.push_scaled(1, Op::MeanSquaredErrorGrad, &[targets, y], factor, "grad_targets")?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Appends the operations of the adjoint, given the materialized gradient `dy` of the result.
    fn propagate_value(&mut self, dy: ValueId) -> Result<()> {
        let node = self.node;
        let (i, y) = (|operand: usize| node.inputs[operand], node.outputs[0]);
        match &node.op {
            Op::Conv2d(c) => {
                self.push(1, Op::Conv2dGradKernel(*c), &[i(0), dy], "grad_kernel")?;
                self.push(0, Op::Conv2dGradInput(*c), &[dy, i(1)], "grad_input")
            }
            // The gradients of a convolution are bilinear too, with the roles of the operands exchanged.
            Op::Conv2dGradInput(c) => {
                self.push(1, Op::Conv2dGradKernel(*c), &[dy, i(0)], "grad_kernel")?;
                self.push(0, Op::Conv2d(*c), &[dy, i(1)], "grad_input")
            }
            Op::Conv2dGradKernel(c) => {
                self.push(1, Op::Conv2d(*c), &[i(0), dy], "grad_dy")?;
                self.push(0, Op::Conv2dGradInput(*c), &[i(1), dy], "grad_input")
            }
            &Op::MatMul { transpose_a, transpose_b } => {
                let matmul = |transpose_a, transpose_b| Op::MatMul { transpose_a, transpose_b };
                // C = A B: dB = A' dC and dA = dC B'; the transpose of either if the operand is stored
                // transposed.
                if transpose_b {
                    self.push(1, matmul(true, transpose_a), &[dy, i(0)], "grad_kernel")?;
                } else {
                    self.push(1, matmul(!transpose_a, false), &[i(0), dy], "grad_kernel")?;
                }
                if transpose_a {
                    self.push(0, matmul(transpose_b, true), &[i(1), dy], "grad_input")
                } else {
                    self.push(0, matmul(false, !transpose_b), &[dy, i(1)], "grad_input")
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
            // Depends only on the number of elements: the derivative is 0.
            Op::MeanGrad => Ok(()),
            Op::Relu => self.push(0, Op::ReluGrad, &[y, dy], "grad_input"),
            // Linear in dy; piecewise constant in y, so the gradient of y is 0.
            Op::ReluGrad => self.push(1, Op::ReluGrad, &[i(0), dy], "grad_dy"),
            Op::Activation(a) => self.push(0, Op::ActivationGrad(*a), &[i(0), dy], "grad_input"),
            Op::ActivationGrad(a) => {
                if !matches!(a, Activation::LeakyRelu { .. } | Activation::Clamp { .. }) {
                    self.reject_gradient(0)?;
                }
                self.push(1, Op::ActivationGrad(*a), &[i(0), dy], "grad_dy")
            }
            Op::Softmax => self.push(0, Op::SoftmaxGrad, &[y, dy], "grad_input"),
            // The Jacobian of softmax is symmetric.
            Op::SoftmaxGrad => {
                self.reject_gradient(0)?;
                self.push(1, Op::SoftmaxGrad, &[i(0), dy], "grad_dy")
            }
            Op::Dropout(d) => self.push(0, Op::Dropout(*d), &[dy], "grad_input"),
            Op::MaxPool2d(p) => self.push(0, Op::MaxPool2dGrad(*p), &[node.outputs[1], dy], "grad_input"),
            Op::AvgPool2d(p) => self.push(0, Op::AvgPool2dGrad(*p), &[dy], "grad_input"),
            Op::AvgPool2dGrad(p) => self.push(0, Op::AvgPool2d(*p), &[dy], "grad_input"),
            Op::GlobalAvgPool => {
                let x = self.sweep.graph.at(i(0)).shape.extents();
                let size = [x[1], x[2]];
                self.push(0, Op::GlobalAvgPoolGrad(size), &[dy], "grad_input")
            }
            Op::GlobalAvgPoolGrad(_) => self.push(0, Op::GlobalAvgPool, &[dy], "grad_input"),
            Op::Reshape(_) => {
                let extents = self.sweep.graph.at(i(0)).shape.extents().to_vec();
                self.push(0, Op::Reshape(extents), &[dy], "grad_input")
            }
            Op::BatchNorm { epsilon } => self.batch_norm(dy, *epsilon),
            Op::SoftmaxCrossEntropy { .. } | Op::MeanSquaredError | Op::Metrics => {
                Err(self.error("only its mean, constant multiples of it and sums of these have a gradient"))
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

    /// The adjoint of a batch norm; through the batch statistics too if they are those of the normalized
    /// operand.
    fn batch_norm(&mut self, dy: ValueId, epsilon: Option<f64>) -> Result<()> {
        let node = self.node;
        let [x, scale, shift, mean, spread] = [0, 1, 2, 3, 4].map(|operand| node.inputs[operand]);
        let nodes = &self.sweep.graph.nodes;
        let statistics = self.sweep.producers[mean.0].map(|index| &nodes[index]).filter(|producer| {
            let of_x =
                producer.inputs.first() == Some(&x) && producer.outputs.get(..2) == Some(&[mean, spread]);
            of_x && epsilon.is_none() && matches!(producer.op, Op::BatchStatistics { .. })
        });
        if statistics.is_some() {
            if !self.needs(0) {
                self.push(1, Op::BatchNormGradScale, &[x, dy, mean, spread], "grad_scale")?;
                return self.push(2, Op::BiasGrad, &[dy], "grad_shift");
            }
            // The gradient of x is computed from those of scale and shift.
            let dscale = self.append(Op::BatchNormGradScale, &[x, dy, mean, spread], "grad_scale")?;
            let dshift = self.append(Op::BiasGrad, &[dy], "grad_shift")?;
            self.term(1, Gradient::Computed(dscale));
            self.term(2, Gradient::Computed(dshift));
            let operands = [x, dy, scale, mean, spread, dscale, dshift];
            return self.push(0, Op::BatchNormGradInput, &operands, "grad_input");
        }
        self.reject_gradient(3)?;
        self.reject_gradient(4)?;
        if epsilon.is_none() {
            self.push(1, Op::BatchNormGradScale, &[x, dy, mean, spread], "grad_scale")?;
        } else {
            self.reject_gradient(1)?;
        }
        self.push(2, Op::BiasGrad, &[dy], "grad_shift")?;
        if self.needs(0) {
            // With constant statistics dx = dy * scale * inv_std: a batch norm of dy with mean and shift 0.
            let zero = self.append(Op::Scale(0.0), &[shift], "zero")?;
            let op = Op::BatchNorm { epsilon };
            self.push(0, op, &[dy, scale, zero, zero, spread], "grad_input")?;
        }
        Ok(())
    }

    /// Whether the gradient of an operand is needed.
    fn needs(&self, operand: usize) -> bool {
        self.node.inputs.get(operand).is_some_and(|id| self.sweep.needed[id.0])
    }

    /// Adds a term to the gradient of an operand if that gradient is needed.
    fn term(&mut self, operand: usize, gradient: Gradient) {
        self.sweep.term(self.index, operand, gradient);
    }

    /// Appends an operation labelled with the node's label and `suffix`. The bias operation of a layer is
    /// labelled `NAME bias`; its gradient is `NAME grad_bias`.
    fn append(&mut self, op: Op, inputs: &[ValueId], suffix: &str) -> Result<ValueId> {
        let label = &self.node.label;
        let name = if self.node.op == Op::BiasAdd { label.strip_suffix(" bias") } else { None };
        self.sweep.graph.push_one(op, inputs, &format!("{} {suffix}", name.unwrap_or(label)))
    }

    /// If the gradient of an operand is needed, appends an operation and adds its result as a term.
    fn push(&mut self, operand: usize, op: Op, inputs: &[ValueId], suffix: &str) -> Result<()> {
        self.push_scaled(operand, op, inputs, 1.0, suffix)
    }

    /// [`Adjoint::push`] with the result multiplied by `factor`.
    fn push_scaled(
        &mut self,
        operand: usize,
        op: Op,
        inputs: &[ValueId],
        factor: f64,
        suffix: &str,
    ) -> Result<()> {
        if self.needs(operand) {
            let result = self.append(op, inputs, suffix)?;
            let term = self.sweep.scale(result, factor, &format!("{} {suffix}", self.node.label))?;
            self.term(operand, Gradient::Computed(term));
        }
        Ok(())
    }

    /// Fails if the gradient of an operand without an implemented adjoint is needed.
    fn reject_gradient(&self, operand: usize) -> Result<()> {
        if !self.needs(operand) {
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
