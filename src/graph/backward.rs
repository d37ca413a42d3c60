//! Reverse-mode differentiation: [`Graph::backward`], the sweep that visits operations in reverse order and
//! sums the gradients of a value over its uses, and the adjoint (vector-Jacobian product) of every operation.

use super::{Activation, DType, ElementLoss, Graph, Node, Op, Resample2d, Role, ValueId};
use crate::error::{Error, Result};

impl Graph {
    /// Appends the operations that compute the gradients of a loss with respect to the `requested` values;
    /// returns one gradient per requested value, in the same order and of the same shape.
    ///
    /// The differentiated quantity is the mean of `loss` over the valid rows: the result of [`Op::Metrics`]
    /// itself, a single number, or the mean over the batch of losses `[n]`. A requested value may be a
    /// parameter, an input or a computed value. Only operations that these gradients depend on are appended.
    /// If a value has several uses, its gradient is the sum over them, computed by [`Op::Add`] in the order
    /// of the uses.
    ///
    /// Appended operations are labelled with the label of the forward operation followed by `grad_input`,
    /// `grad_kernel`, `grad_bias` and so on.
    ///
    /// ```
    /// use frazil::low_level::{DType, Graph, Op};
    /// use frazil::low_level::Shape;
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
    /// - [`Error::NoGradient`] if the loss does not depend on a requested value, or only through labels or
    ///   other operands without a derivative.
    /// - [`Error::NoAdjoint`] if a gradient would have to pass through an operation without an implemented
    ///   adjoint.
    /// - [`Error::InvalidArgument`] for values of another graph, for integer values, and if a parameter is
    ///   updated between the operation that reads it and this call.
    ///
    /// On error the graph is unchanged.
    pub fn backward(&mut self, loss: ValueId, requested: &[ValueId]) -> Result<Vec<ValueId>> {
        self.check_floats(requested.iter().chain([&loss]))?;
        let mean = Gradient::Mean { factor: 1.0, weights: None };
        self.append_gradients(loss, mean, requested)
    }

    /// [`Graph::backward`] of a loss that is not in the graph: `gradient` is its gradient with respect to `output`, a
    /// value of the same shape such as an input.
    ///
    /// # Errors
    /// As [`Graph::backward`]; [`Error::ShapeMismatch`] if the shapes differ.
    pub fn backward_from(
        &mut self,
        output: ValueId,
        gradient: ValueId,
        requested: &[ValueId],
    ) -> Result<Vec<ValueId>> {
        self.check_floats(requested.iter().chain([&output, &gradient]))?;
        let [of, given] = [output, gradient].map(|id| self.at(id));
        if (&of.shape, of.batched) != (&given.shape, given.batched) {
            return Err(Error::shape(&given.name, format!("{}, as {}", of.shape, of.name), &given.shape));
        }
        self.append_gradients(output, Gradient::Computed(gradient), requested)
    }

    /// Checks that values are floats of this graph.
    fn check_floats<'a>(&self, mut ids: impl Iterator<Item = &'a ValueId>) -> Result<()> {
        ids.try_for_each(|id| match self.values.get(id.0) {
            None => Err(super::foreign_value("Graph::backward")),
            Some(value) if value.dtype != DType::F32 => {
                Err(Error::argument(&value.name, "an F32 value", value.dtype))
            }
            Some(_) => Ok(()),
        })
    }

    /// Appends the gradients of the requested values, given that of `loss`; on error the graph is unchanged.
    fn append_gradients(
        &mut self,
        loss: ValueId,
        gradient: Gradient,
        requested: &[ValueId],
    ) -> Result<Vec<ValueId>> {
        let (values, nodes) = (self.values.len(), self.nodes.len());
        let gradients = Sweep::new(self, loss, requested).run(loss, gradient, requested);
        if gradients.is_err() {
            self.values.truncate(values);
            self.nodes.truncate(nodes);
        }
        gradients
    }
}

/// The gradient of the loss with respect to one value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gradient {
    /// `factor` times the gradient of the mean over the value's valid elements. Stored as a tensor only if an
    /// operation needs it, because losses have operations that compute the gradient of their mean directly.
    /// With `weights` = `[labels, class_weights]`, the mean is the weighted mean of [`Op::Metrics`].
    Mean { factor: f64, weights: Option<[ValueId; 2]> },
    /// A value of the graph.
    Computed(ValueId),
}

/// The contribution of one use to the gradient of a value.
#[derive(Clone, Copy, Debug)]
struct Term {
    /// Position of the use in the graph: index of the node, index of its operand.
    site: (usize, usize),
    gradient: Gradient,
}

/// State of one reverse sweep over the operations. Each vector has one entry per value, node or parameter.
struct Sweep<'a> {
    pub graph: &'a mut Graph,
    /// Per value: whether it depends on a requested value and the loss depends on it.
    pub needed: Vec<bool>,
    /// Per value: index of the node that computes it.
    pub producers: Vec<Option<usize>>,
    /// Per node: its immediate post-dominator, the first later node on all of its paths to the loss; for the
    /// node of the loss, that node itself.
    post_dominators: Vec<usize>,
    /// Per parameter: the last node that updates it.
    last_updates: Vec<Option<usize>>,
    /// Per value: the number of uses whose terms are pending.
    pending: Vec<usize>,
    /// Per value: the terms collected so far.
    terms: Vec<Vec<Term>>,
    /// Per value: the sum of all terms; `None` while terms are pending, and if there are none.
    gradients: Vec<Option<Gradient>>,
}

impl<'a> Sweep<'a> {
    pub fn new(graph: &'a mut Graph, loss: ValueId, requested: &[ValueId]) -> Self {
        let (values, nodes) = (graph.values.len(), &graph.nodes);
        let mut influences = vec![false; values];
        influences[loss.0] = true;
        for node in nodes.iter().rev() {
            // Integers (positions, labels) have no derivative.
            let floats = |id: &&ValueId| graph.at(**id).dtype == DType::F32;
            if node.outputs.iter().filter(floats).any(|id| influences[id.0]) {
                node.inputs.iter().for_each(|id| influences[id.0] = true);
            }
        }
        let mut depends = vec![false; values];
        requested.iter().for_each(|id| depends[id.0] = true);
        let mut producers = vec![None; values];
        let mut last_updates = vec![None; graph.parameters.len()];
        for (index, node) in nodes.iter().enumerate() {
            let any = node.inputs.iter().any(|id| depends[id.0]);
            for id in &node.outputs {
                producers[id.0] = Some(index);
                depends[id.0] |= any && graph.at(*id).dtype == DType::F32;
            }
            match &node.op {
                Op::Update(_, targets) => {
                    targets.iter().for_each(|t| last_updates[t.parameter.0] = Some(index));
                }
                Op::UpdateStatistics(_, targets) => {
                    targets.iter().for_each(|t| last_updates[t.0] = Some(index));
                }
                _ => {}
            }
        }
        let needed: Vec<_> = influences.iter().zip(depends).map(|(i, d)| *i && d).collect();
        // Per value: the nodes that use it on a path from a requested value to the loss, once per operand.
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); values];
        let mut post_dominators: Vec<_> = (0..nodes.len()).collect();
        for (index, node) in nodes.iter().enumerate().rev() {
            if !node.outputs.iter().any(|id| needed[id.0]) {
                continue;
            }
            let successors = node.outputs.iter().flat_map(|id| users[id.0].iter().copied());
            let common = successors.reduce(|a, b| common_post_dominator(&post_dominators, a, b));
            post_dominators[index] = common.unwrap_or(index);
            node.inputs.iter().filter(|id| needed[id.0]).for_each(|id| users[id.0].push(index));
        }
        Sweep {
            pending: users.iter().map(Vec::len).collect(),
            terms: vec![Vec::new(); values],
            gradients: vec![None; values],
            graph,
            needed,
            producers,
            post_dominators,
            last_updates,
        }
    }

    /// Propagates gradients from the loss to the requested values, depth first: of two branches that join at
    /// a node, the branch of the first operand is differentiated completely, down to the value where the
    /// branches fork, before the other. Returns the requested gradients.
    pub fn run(&mut self, loss: ValueId, gradient: Gradient, requested: &[ValueId]) -> Result<Vec<ValueId>> {
        if self.needed[loss.0] {
            self.terms[loss.0].push(Term { site: (self.graph.nodes.len(), 0), gradient });
        }
        let mut done = vec![false; self.graph.nodes.len()];
        self.sum(loss)?;
        // Stack of values whose gradients are complete and have yet to be propagated.
        let mut stack = vec![loss];
        while let Some(value) = stack.pop() {
            let Some(index) = self.producers[value.0] else { continue };
            let ready = self.graph.nodes[index].outputs.iter().all(|id| self.pending[id.0] == 0);
            if !ready || std::mem::replace(&mut done[index], true) {
                continue;
            }
            self.propagate(index)?;
            let mut complete = Vec::new();
            for id in self.graph.nodes[index].inputs.clone() {
                if self.needed[id.0] {
                    self.pending[id.0] -= 1;
                    if self.pending[id.0] == 0 {
                        self.sum(id)?;
                        complete.push(id);
                    }
                }
            }
            stack.extend(complete.into_iter().rev());
        }
        let mut gradients = Vec::with_capacity(requested.len());
        for &value in requested {
            let Some(gradient) = self.gradients[value.0] else {
                let name = |id: ValueId| self.graph.at(id).name.clone();
                return Err(Error::NoGradient { value: name(value), loss: name(loss) });
            };
            let gradient = self.materialize(value, gradient)?;
            self.gradients[value.0] = Some(Gradient::Computed(gradient));
            gradients.push(gradient);
        }
        Ok(gradients)
    }

    /// Propagates the gradient of a node's result to its operands.
    fn propagate(&mut self, index: usize) -> Result<()> {
        let node = self.graph.nodes[index].clone();
        // At most one result of an operation has a gradient, because no operation has two differentiable
        // results.
        let Some(dy) = node.outputs.iter().find_map(|id| self.gradients[id.0]) else { return Ok(()) };
        for id in &node.inputs {
            if let Role::Parameter(parameter) = self.graph.at(*id).role
                && self.last_updates[parameter.0].is_some_and(|update| update > index)
            {
                let path = &self.graph.parameters[parameter.0].path;
                return Err(Error::argument(
                    &node.label,
                    "Graph::backward before the update of its operands",
                    format!("{path}, which is already updated"),
                ));
            }
        }
        Adjoint { sweep: self, node: &node, index }.propagate(dy)
    }

    /// Adds a term to the gradient of an operand of node `node` if that gradient is needed.
    pub fn term(&mut self, node: usize, operand: usize, gradient: Gradient) {
        let value = self.graph.nodes[node].inputs[operand];
        if self.needed[value.0] {
            self.terms[value.0].push(Term { site: (node, operand), gradient });
        }
    }

    /// Sums the terms of a value in the order of its uses.
    fn sum(&mut self, value: ValueId) -> Result<()> {
        let mut terms = std::mem::take(&mut self.terms[value.0]);
        terms.sort_by_key(|term| term.site);
        let mut sum: Option<(Gradient, usize)> = None;
        for Term { site: (user, _), gradient } in terms {
            sum = Some(match (sum, gradient) {
                (None, term) => (term, user),
                (
                    Some((Gradient::Mean { factor, weights }, at)),
                    Gradient::Mean { factor: other, weights: other_weights },
                ) if weights == other_weights => {
                    let at = common_post_dominator(&self.post_dominators, at, user);
                    (Gradient::Mean { factor: factor + other, weights }, at)
                }
                (Some((sum, at)), term) => {
                    let both = [self.materialize(value, sum)?, self.materialize(value, term)?];
                    let at = common_post_dominator(&self.post_dominators, at, user);
                    let label = self.sum_label(value, at);
                    (Gradient::Computed(self.graph.push_one(Op::Add, &both, &label)?), at)
                }
            });
        }
        self.gradients[value.0] = sum.map(|(gradient, _)| gradient);
        Ok(())
    }

    /// The label of a sum of gradients: the parameter's path, or the label of the node `join` where the paths
    /// from the value to the loss meet.
    fn sum_label(&self, value: ValueId, join: usize) -> String {
        let info = self.graph.at(value);
        match info.role {
            Role::Parameter(_) => format!("{} grad", info.name),
            _ => format!("{} grad_input", self.graph.nodes[join].label),
        }
    }

    /// Returns the gradient as a value of the graph, appending operations if necessary.
    pub fn materialize(&mut self, value: ValueId, gradient: Gradient) -> Result<ValueId> {
        let name = self.graph.at(value).name.clone();
        match gradient {
            Gradient::Computed(id) => Ok(id),
            Gradient::Mean { weights: Some(_), .. } => Err(Error::NoAdjoint {
                label: name,
                op: Op::Metrics.name(),
                why: "a class-weighted mean needs a cross-entropy with the same class weights",
            }),
            Gradient::Mean { factor, weights: None } => {
                let label = format!("{name} grad");
                let mean = self.graph.push_one(Op::MeanGrad, &[value], &label)?;
                self.scale(mean, factor, &label)
            }
        }
    }

    /// Appends the multiplication of a value by a constant; appends nothing if the constant is 1.
    pub fn scale(&mut self, value: ValueId, factor: f64, label: &str) -> Result<ValueId> {
        if factor == 1.0 { Ok(value) } else { self.graph.push_one(Op::Scale(factor), &[value], label) }
    }
}

/// Returns the first node that lies on all paths from `a` to the loss and on all paths from `b` to the loss.
fn common_post_dominator(post_dominators: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        // Post-dominators have higher indices than the nodes before them, so only the earlier node can
        // advance.
        let earlier = if a < b { &mut a } else { &mut b };
        // The node of the loss is its own post-dominator. All paths end there, so it is the common one.
        if post_dominators[*earlier] == *earlier {
            return a.max(b);
        }
        *earlier = post_dominators[*earlier];
    }
    a
}

/// Adjoint (vector-Jacobian product) of one node: maps the gradient of its result to those of its operands.
struct Adjoint<'s, 'g> {
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
            // The result of these operations has the same mean as the operand: a global average pool averages
            // equally many elements per result, and a reshape keeps all elements.
            Op::GlobalAvgPool | Op::Reshape(_) => self.term(0, mean(factor)),
            Op::Metrics => {
                // The mean loss does not depend on logits and labels: they only contribute to the running
                // sums.
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
            Op::ElementLoss(of) if weights.is_none() => {
                let symmetric = matches!(of, ElementLoss::Huber { .. });
                let [y, targets] = [node.inputs[0], node.inputs[1]];
                self.push_scaled(0, Op::ElementLossGrad(*of), &[y, targets], factor, "grad")?;
                if symmetric {
                    self.push_scaled(1, Op::ElementLossGrad(*of), &[targets, y], factor, "grad_targets")?;
                } else {
                    self.reject_gradient(1)?;
                }
            }
            Op::SoftCrossEntropy if weights.is_none() => {
                self.reject_gradient(1)?;
                self.push_scaled(0, Op::SoftCrossEntropyGrad, &node.inputs, factor, "grad")?;
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
            // The gradients of a convolution are linear in each operand, as the convolution is, so their
            // adjoints are convolutions and gradients of convolutions again.
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
                // For C = A B: dA = dC B^T and dB = A^T dC. If an operand is stored transposed, so is its
                // gradient.
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
            Op::MulChannels => {
                self.push(0, Op::MulChannels, &[dy, i(1)], "grad_a")?;
                self.factors_of_channels(dy)
            }
            Op::Concat => {
                let [c, d] = [0, 1].map(|operand| self.sweep.graph.at(i(operand)).shape.last());
                self.push(0, Op::SliceChannels { begin: 0, channels: c }, &[dy], "grad_a")?;
                self.push(1, Op::SliceChannels { begin: c, channels: d }, &[dy], "grad_b")
            }
            Op::SliceChannels { begin, .. } => {
                let channels = self.sweep.graph.at(i(0)).shape.last();
                self.push(0, Op::PadChannels { begin: *begin, channels }, &[dy], "grad_input")
            }
            Op::PadChannels { begin, .. } => {
                let channels = self.sweep.graph.at(i(0)).shape.last();
                self.push(0, Op::SliceChannels { begin: *begin, channels }, &[dy], "grad_input")
            }
            Op::Scale(factor) => self.push(0, Op::Scale(*factor), &[dy], "grad_input"),
            // The result `1 / elements` does not depend on the elements of x, so the gradient with respect to
            // x is 0.
            Op::MeanGrad => Ok(()),
            Op::Relu => self.push(0, Op::ReluGrad, &[y, dy], "grad_input"),
            // The result is linear in dy and piecewise constant in y, so the gradient with respect to y is 0.
            Op::ReluGrad => self.push(1, Op::ReluGrad, &[i(0), dy], "grad_dy"),
            Op::Activation(a) => self.push(0, Op::ActivationGrad(*a), &[i(0), dy], "grad_input"),
            Op::ActivationGrad(a) => {
                use Activation::{Clamp, HardSigmoid, LeakyRelu, Relu6};
                if !matches!(a, LeakyRelu { .. } | Clamp { .. } | Relu6 | HardSigmoid) {
                    self.reject_gradient(0)?;
                }
                self.push(1, Op::ActivationGrad(*a), &[i(0), dy], "grad_dy")
            }
            Op::Softmax => self.push(0, Op::SoftmaxGrad, &[y, dy], "grad_input"),
            Op::LogSoftmax => self.push(0, Op::LogSoftmaxGrad, &[y, dy], "grad_input"),
            // The result is `J dy`, where J is the Jacobian of softmax. J is symmetric, so the adjoint with
            // respect to dy is the same operation.
            Op::SoftmaxGrad => {
                self.reject_gradient(0)?;
                self.push(1, Op::SoftmaxGrad, &[i(0), dy], "grad_dy")
            }
            Op::Dropout(d) => self.push(0, Op::Dropout(*d), &[dy], "grad_input"),
            Op::MaxPool2d(p) => self.push(0, Op::MaxPool2dGrad(*p), &[node.outputs[1], dy], "grad_input"),
            Op::AvgPool2d(p) => self.push(0, Op::AvgPool2dGrad(*p), &[dy], "grad_input"),
            Op::AvgPool2dGrad(p) => self.push(0, Op::AvgPool2d(*p), &[dy], "grad_input"),
            Op::Resample2d(r) => {
                let adjoint = Resample2d { adjoint: !r.adjoint, ..*r };
                self.push(0, Op::Resample2d(adjoint), &[dy], "grad_input")
            }
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
            Op::Normalize(of) => {
                let inv_std = node.outputs[1];
                if self.sweep.gradients[inv_std.0].is_some() {
                    return Err(self.error("its inverse standard deviations have no gradient"));
                }
                self.push(0, Op::NormalizeGrad(*of), &[y, inv_std, dy], "grad_input")
            }
            Op::SoftmaxCrossEntropy { .. }
            | Op::MeanSquaredError
            | Op::ElementLoss(_)
            | Op::SoftCrossEntropy
            | Op::Metrics => {
                Err(self.error("only constant multiples of its mean and sums of these have a gradient"))
            }
            Op::BiasGrad
            | Op::MaxPool2dGrad(_)
            | Op::SoftmaxCrossEntropyGrad { .. }
            | Op::MeanSquaredErrorGrad
            | Op::ElementLossGrad(_)
            | Op::SoftCrossEntropyGrad
            | Op::LogSoftmaxGrad
            | Op::BatchStatistics { .. }
            | Op::BatchNormGradScale { .. }
            | Op::BatchNormGradInput
            | Op::NormalizeGrad(_)
            | Op::UpdateStatistics(..)
            | Op::Accumulate(_)
            | Op::Clip(..)
            | Op::Update(..) => Err(self.error("its adjoint is not implemented")),
        }
    }

    /// Appends the adjoint of a batch norm. If mean and variance are the batch statistics of the normalized
    /// operand, the gradient through them is included.
    fn batch_norm(&mut self, dy: ValueId, epsilon: Option<f64>) -> Result<()> {
        let node = self.node;
        let [x, scale, shift, mean, spread] = [0, 1, 2, 3, 4].map(|operand| node.inputs[operand]);
        let nodes = &self.sweep.graph.nodes;
        let grad_scale = Op::BatchNormGradScale { epsilon };
        let statistics = self.sweep.producers[mean.0].map(|index| &nodes[index]).filter(|producer| {
            let of_x =
                producer.inputs.first() == Some(&x) && producer.outputs.get(..2) == Some(&[mean, spread]);
            of_x && epsilon.is_none() && matches!(producer.op, Op::BatchStatistics { .. })
        });
        if statistics.is_some() {
            if !self.needs(0) {
                self.push(1, grad_scale, &[x, dy, mean, spread], "grad_scale")?;
                return self.push(2, Op::BiasGrad, &[dy], "grad_shift");
            }
            // The input gradient is computed from the gradients of scale and shift.
            let dscale = self.append(grad_scale, &[x, dy, mean, spread], "grad_scale")?;
            let dshift = self.append(Op::BiasGrad, &[dy], "grad_shift")?;
            self.term(1, Gradient::Computed(dscale));
            self.term(2, Gradient::Computed(dshift));
            let operands = [x, dy, scale, mean, spread, dscale, dshift];
            return self.push(0, Op::BatchNormGradInput, &operands, "grad_input");
        }
        self.reject_gradient(3)?;
        self.reject_gradient(4)?;
        self.push(1, grad_scale, &[x, dy, mean, spread], "grad_scale")?;
        self.push(2, Op::BiasGrad, &[dy], "grad_shift")?;
        if self.needs(0) {
            // With constant statistics, dx = dy * scale * inv_std: the batch norm of dy with mean 0 and shift
            // 0.
            let zero = self.append(Op::Scale(0.0), &[shift], "zero")?;
            let op = Op::BatchNorm { epsilon };
            self.push(0, op, &[dy, scale, zero, zero, spread], "grad_input")?;
        }
        Ok(())
    }

    /// Appends the gradient of the factors of channels: the sum of `dy * a` over the positions, and over the examples
    /// if these have the same factors.
    fn factors_of_channels(&mut self, dy: ValueId) -> Result<()> {
        if !self.needs(1) {
            return Ok(());
        }
        let [a, b] = [0, 1].map(|operand| self.node.inputs[operand]);
        let product = self.append(Op::Mul, &[dy, a], "grad_b products")?;
        let (a, channels) = (self.sweep.graph.at(a), self.sweep.graph.at(b).shape.last());
        let positions = a.elements_per_row() / channels;
        if !self.sweep.graph.at(b).batched {
            return self.push(1, Op::BiasGrad, &[product], "grad_b");
        }
        let images = Op::Reshape(vec![self.sweep.graph.batch(), positions, 1, channels]);
        let images = self.append(images, &[product], "grad_b products")?;
        let mean = self.append(Op::GlobalAvgPool, &[images], "grad_b mean")?;
        let sum = self.sweep.scale(mean, positions as f64, &format!("{} grad_b", self.node.label))?;
        self.term(1, Gradient::Computed(sum));
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

    /// Returns an error if the gradient of this operand is needed, because its adjoint is not implemented.
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
