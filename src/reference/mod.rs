//! The reference implementation: every operation in f64 on the CPU, and an interpreter of a [`Graph`].
//!
//! All GPU kernels are compared with it. The loops follow the formulas; clarity is preferred over speed.

mod conv;
mod elementwise;
mod linear;
mod loss;
mod norm;
mod pool;
#[cfg(test)]
mod tests;
mod update;

use crate::error::{Error, Result};
use crate::graph::{DType, Graph, Node, Op, ParameterId, Role, StepScalars, Value, ValueId};
use crate::mask::Mask;
pub(crate) use norm::sets as normalized_sets;
use update::{Clipping, Frozen, accumulate, update_all};

/// Running sums of [`Op::Metrics`] since the start or the last [`Reference::reset_sums`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReferenceSums {
    /// Sum of the losses of all examples; in nats for cross-entropy.
    pub loss: f64,
    /// Number of examples whose label has the largest logit, the first one if several are equal.
    pub correct: u64,
    /// Number of examples.
    pub examples: u64,
    /// Sum of the class weights of the labels; 0 without class weights.
    pub weight: f64,
}

/// Interpreter of one graph in f64. Owns all values, the masks and optimizer state of the parameters, and the
/// running sums. Elements of [`DType::U32`] are stored as f64, which represents them exactly.
///
/// A NaN or infinite mean loss is excluded from the sums and sets a permanent flag: updates after that node,
/// in this run and in all later ones, are skipped unless [`StepScalars::on_non_finite_continue`] is 1. An update
/// with a result that is not finite sets the flag at the next [`Op::Metrics`].
#[derive(Clone, Debug)]
pub struct Reference {
    graph: Graph,
    values: Vec<Vec<f64>>,
    masks: Vec<Mask>,
    /// The number of steps that each element of each parameter missed.
    missed_steps: Vec<Vec<u32>>,
    /// Optimizer state, indexed by parameter, then by slot of [`crate::graph::UpdateRule::slots`].
    states: Vec<Vec<Vec<f64>>>,
    /// Accumulated gradients, indexed by parameter; empty without accumulation.
    accumulated: Vec<Vec<f64>>,
    clipping: Clipping,
    sums: ReferenceSums,
    /// Whether the mean loss of some run was NaN or infinite, or an update before was.
    stopped: bool,
    /// Whether an element was not updated because its result was not finite.
    rejected: bool,
}

impl Reference {
    /// An interpreter with all values, parameters and state 0 and nothing frozen.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if two updates share a parameter.
    pub fn new(graph: &Graph) -> Result<Self> {
        let parameters = graph.parameters();
        let mut states: Vec<Option<Vec<Vec<f64>>>> = vec![None; parameters.len()];
        for node in graph.nodes() {
            let Op::Update(rule, targets) = &node.op else { continue };
            for target in targets {
                let index = target.parameter.0;
                let slots = vec![vec![0.0; parameters[index].shape.elements()]; rule.slots().len()];
                if states[index].replace(slots).is_some() {
                    let got = format!("a second update of {}", parameters[index].path);
                    return Err(Error::argument(&node.label, "one update of each parameter", got));
                }
            }
        }
        Ok(Reference {
            values: graph.values().iter().map(|v| vec![0.0; v.shape.elements()]).collect(),
            masks: parameters.iter().map(|p| Mask::none_of(p.shape.elements())).collect(),
            missed_steps: parameters.iter().map(|p| vec![0; p.shape.elements()]).collect(),
            states: states.into_iter().map(Option::unwrap_or_default).collect(),
            accumulated: vec![Vec::new(); parameters.len()],
            clipping: Clipping::default(),
            graph: graph.clone(),
            sums: ReferenceSums::default(),
            stopped: false,
            rejected: false,
        })
    }

    /// Writes all elements of an input or a parameter, row-major, for a full batch.
    ///
    /// # Errors
    /// - [`Error::ShapeMismatch`] for a wrong number of elements.
    /// - [`Error::InvalidArgument`] for a computed value, a value of another graph, or an element of a
    ///   [`DType::U32`] value that is not an unsigned 32-bit integer.
    pub fn write(&mut self, value: ValueId, data: &[f64]) -> Result<()> {
        let Some(target) = self.graph.values().get(value.0) else {
            return Err(Error::argument(
                "Reference::write",
                "a value of this graph",
                "a value of another graph",
            ));
        };
        if target.role == Role::Computed {
            return Err(Error::argument(&target.name, "an input or a parameter", "a computed value"));
        }
        if data.len() != target.shape.elements() {
            let expected = format!("{} elements for {}", target.shape.elements(), target.shape);
            return Err(Error::shape(&target.name, expected, data.len()));
        }
        let is_u32 = |x: f64| x.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&x);
        if target.dtype == DType::U32
            && let Some(&invalid) = data.iter().find(|&&x| !is_u32(x))
        {
            return Err(Error::argument(&target.name, "unsigned 32-bit integers", invalid));
        }
        self.values[value.0].copy_from_slice(data);
        Ok(())
    }

    /// Sets the mask of frozen elements of a parameter. Weights and state do not change.
    ///
    /// # Errors
    /// [`Error::MaskMismatch`] for a wrong number of elements; [`Error::InvalidArgument`] for a parameter of
    /// another graph.
    pub fn set_mask(&mut self, parameter: ParameterId, mask: &Mask) -> Result<()> {
        let Some(target) = self.graph.parameters().get(parameter.0) else {
            return Err(foreign_parameter("Reference::set_mask"));
        };
        let expected = target.shape.elements();
        if mask.len() != expected {
            return Err(Error::MaskMismatch { path: target.path.clone(), expected, got: mask.len() });
        }
        self.masks[parameter.0] = mask.clone();
        Ok(())
    }

    /// Sets the number of steps that each element of a parameter missed because it was frozen, modulo 2^32.
    /// The bias correction of Adam does not count them; initially 0.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a wrong number of elements; [`Error::InvalidArgument`] for a parameter of
    /// another graph.
    pub fn set_missed_steps(&mut self, parameter: ParameterId, missed: &[u32]) -> Result<()> {
        let Some(target) = self.graph.parameters().get(parameter.0) else {
            return Err(foreign_parameter("Reference::set_missed_steps"));
        };
        let expected = target.shape.elements();
        if missed.len() != expected {
            return Err(Error::shape(&target.path, format!("{expected} elements"), missed.len()));
        }
        self.missed_steps[parameter.0] = missed.to_vec();
        Ok(())
    }

    /// Executes all operations in order on the first `step.rows` rows of every batched value. Later rows of
    /// operands are not read, later rows of results are not written, and means are over the valid rows.
    ///
    /// # Errors
    /// - [`Error::EmptyBatch`] for 0 rows.
    /// - [`Error::InvalidArgument`] for more rows than the batch of the graph.
    /// - [`Error::LabelOutOfRange`] for a label that is not below the number of classes; earlier operations
    ///   have then been executed.
    pub fn run(&mut self, step: StepScalars) -> Result<()> {
        let rows = step.rows as usize;
        if rows == 0 {
            return Err(Error::EmptyBatch { at: "Reference::run".into() });
        }
        if rows > self.graph.batch() {
            let expected = format!("at most {} rows, the batch of the graph", self.graph.batch());
            return Err(Error::argument("Reference::run", expected, rows));
        }
        let Reference {
            graph,
            values,
            masks,
            missed_steps,
            states,
            accumulated,
            clipping,
            sums,
            stopped,
            rejected,
        } = self;
        clipping.begin();
        for node in graph.nodes() {
            match &node.op {
                Op::Accumulate(targets) => {
                    accumulate(targets, node, &step, values, accumulated);
                    continue;
                }
                Op::Clip(clip, targets) => {
                    if step.last == 1 {
                        clipping.measure(*clip, targets, node, values, masks);
                    }
                    continue;
                }
                Op::Update(rule, targets) => {
                    if step.last == 1 && (!*stopped || step.on_non_finite_continue != 0) {
                        let frozen = Frozen { masks, missed_steps };
                        *rejected |=
                            update_all(graph, node, rule, targets, &step, clipping, values, &frozen, states);
                    }
                    continue;
                }
                _ => {}
            }
            if let Op::UpdateStatistics(rule, targets) = &node.op {
                if !*stopped || step.on_non_finite_continue != 0 {
                    for (index, &target) in targets.iter().enumerate() {
                        let factor = if index == 1 { norm::variance_factor(rule, rows) } else { 1.0 };
                        let mut running = std::mem::take(&mut values[graph.at_parameter(target).0]);
                        let batch = &values[node.inputs[index].0];
                        *rejected |= norm::update_running(
                            rule.momentum,
                            factor,
                            batch,
                            &masks[target.0],
                            step.on_non_finite_continue != 0,
                            &mut running,
                        );
                        values[graph.at_parameter(target).0] = running;
                    }
                }
                continue;
            }
            // Move the result tensors out of `self` while the operation runs; no operation reads its own
            // results.
            let mut results: Vec<_> =
                node.outputs.iter().map(|id| std::mem::take(&mut values[id.0])).collect();
            let outcome = compute(graph, node, &step, values, &mut results, sums, *rejected);
            for (id, result) in node.outputs.iter().zip(results) {
                values[id.0] = result;
            }
            outcome?;
            if node.op == Op::Metrics {
                *stopped |= *rejected || !values[node.outputs[0].0][0].is_finite();
            }
        }
        Ok(())
    }

    /// All elements of a value, row-major, for a full batch; empty if the id is out of range.
    pub fn read(&self, value: ValueId) -> &[f64] {
        self.values.get(value.0).map_or(&[], Vec::as_slice)
    }

    /// One optimizer state tensor of a parameter, indexed as [`crate::graph::UpdateRule::slots`]; empty if
    /// there is none.
    pub fn state(&self, parameter: ParameterId, slot: usize) -> &[f64] {
        self.states.get(parameter.0).and_then(|s| s.get(slot)).map_or(&[], Vec::as_slice)
    }

    /// Writes one optimizer state tensor of a parameter, including the frozen elements.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if there is no such slot; [`Error::ShapeMismatch`] for a wrong number of
    /// elements.
    pub fn write_state(&mut self, parameter: ParameterId, slot: usize, data: &[f64]) -> Result<()> {
        let Some(target) = self.graph.parameters().get(parameter.0) else {
            return Err(foreign_parameter("Reference::write_state"));
        };
        let slots = &mut self.states[parameter.0];
        let count = slots.len();
        let Some(state) = slots.get_mut(slot) else {
            return Err(Error::argument(&target.path, format!("a state slot below {count}"), slot));
        };
        if data.len() != state.len() {
            let at = format!("{} state {slot}", target.path);
            return Err(Error::shape(at, format!("{} elements", state.len()), data.len()));
        }
        state.copy_from_slice(data);
        Ok(())
    }

    /// The global gradient norm that the last [`crate::graph::Clip::Norm`] measured, before clipping;
    /// initially 0.
    pub fn gradient_norm(&self) -> f64 {
        self.clipping.norm
    }

    /// The running sums of all runs since the last reset.
    pub fn sums(&self) -> ReferenceSums {
        self.sums
    }

    /// Resets the running sums to 0; the flag of a non-finite loss is kept.
    pub fn reset_sums(&mut self) {
        self.sums = ReferenceSums::default();
    }
}

fn foreign_parameter(at: &str) -> Error {
    Error::argument(at, "a parameter of this graph", "a parameter of another graph")
}

/// Number of valid rows: the first `rows` of the batch, or the whole first axis of an unbatched value.
fn rows_used(value: &Value, rows: usize) -> usize {
    if value.batched { rows } else { value.shape.extents().first().copied().unwrap_or(1) }
}

/// Number of valid elements; these come first.
fn elements_used(value: &Value, rows: usize) -> usize {
    if value.batched { rows * value.elements_per_row() } else { value.shape.elements() }
}

/// Executes an operation that has results. `results` are the full tensors of the node's outputs; `rejected` is
/// whether an update had a result that was not finite.
fn compute(
    graph: &Graph,
    node: &Node,
    step: &StepScalars,
    values: &[Vec<f64>],
    results: &mut [Vec<f64>],
    sums: &mut ReferenceSums,
    rejected: bool,
) -> Result<()> {
    let rows = step.rows as usize;
    let info = |index: usize| graph.at(node.inputs[index]);
    let operand = |index: usize| &values[node.inputs[index].0][..elements_used(info(index), rows)];
    let weights = |index: usize| (index < node.inputs.len()).then(|| operand(index));
    let mut results: Vec<&mut [f64]> = results
        .iter_mut()
        .zip(&node.outputs)
        .map(|(result, &id)| &mut result[..elements_used(graph.at(id), rows)])
        .collect();
    match (&node.op, results.as_mut_slice()) {
        (Op::Conv2d(c), [y]) => conv::conv2d(c, operand(0), operand(1), y),
        (Op::Conv2dGradInput(c), [dx]) => conv::grad_input(c, operand(0), operand(1), dx),
        (Op::Conv2dGradKernel(c), [dkernel]) => conv::grad_kernel(c, operand(0), operand(1), dkernel),
        (Op::MatMul { transpose_a, transpose_b }, [y]) => {
            let a = linear::Matrix::new(operand(0), info(0).shape.last(), *transpose_a);
            let b = linear::Matrix::new(operand(1), info(1).shape.last(), *transpose_b);
            linear::matmul(&a, &b, y);
        }
        (Op::BiasAdd, [y]) => linear::bias_add(operand(0), operand(1), y),
        (Op::BiasGrad, [dbias]) => linear::bias_grad(operand(0), dbias),
        (Op::Add, [y]) => elementwise::add(operand(0), operand(1), y),
        (Op::Mul, [y]) => elementwise::mul(operand(0), operand(1), y),
        (Op::MulChannels, [y]) => {
            let examples = if info(1).batched { rows } else { 1 };
            elementwise::mul_channels(operand(0), operand(1), operand(0).len() / examples, y);
        }
        (Op::Concat, [y]) => {
            let [c, d] = [0, 1].map(|index| info(index).shape.last());
            elementwise::write_channels(operand(0), c, 0, y, c + d);
            elementwise::write_channels(operand(1), d, c, y, c + d);
        }
        (Op::SliceChannels { begin, channels }, [y]) => {
            let rows = operand(0).chunks(info(0).shape.last());
            let parts = rows.flat_map(|row| &row[*begin..begin + channels]);
            y.iter_mut().zip(parts).for_each(|(y, &x)| *y = x);
        }
        (Op::PadChannels { begin, channels }, [y]) => {
            y.fill(0.0);
            elementwise::write_channels(operand(0), info(0).shape.last(), *begin, y, *channels);
        }
        (Op::Scale(factor), [y]) => elementwise::scale(*factor, operand(0), y),
        (Op::MeanGrad, [dx]) => elementwise::mean_grad(dx),
        (Op::Relu, [y]) => elementwise::relu(operand(0), y),
        (Op::Activation(a), [y]) => elementwise::activation(*a, operand(0), y),
        (Op::ActivationGrad(a), [dx]) => elementwise::activation_grad(*a, operand(0), operand(1), dx),
        (Op::Softmax, [y]) => elementwise::softmax(info(0).shape.last(), operand(0), y),
        (Op::SoftmaxGrad, [dx]) => {
            elementwise::softmax_grad(info(0).shape.last(), operand(0), operand(1), dx)
        }
        (Op::LogSoftmax, [y]) => elementwise::log_softmax(info(0).shape.last(), operand(0), y),
        (Op::LogSoftmaxGrad, [dx]) => {
            elementwise::log_softmax_grad(info(0).shape.last(), operand(0), operand(1), dx);
        }
        (Op::ReluGrad, [dx]) => elementwise::relu_grad(operand(0), operand(1), dx),
        (Op::AvgPool2d(p), [y]) => pool::avg_pool2d(p, operand(0), y),
        (Op::AvgPool2dGrad(p), [dx]) => pool::avg_pool2d_grad(p, operand(0), dx),
        (Op::Resample2d(r), [y]) => pool::resample2d(r, operand(0), y),
        (Op::Dropout(d), [y]) => elementwise::dropout(d, step, operand(0), y),
        (Op::MaxPool2d(p), [y, position]) => pool::max_pool2d(p, operand(0), y, position),
        (Op::MaxPool2dGrad(p), [dx]) => pool::max_pool2d_grad(p, operand(0), operand(1), dx),
        (Op::GlobalAvgPool, [y]) => pool::global_avg_pool(rows_used(info(0), rows), operand(0), y),
        (Op::GlobalAvgPoolGrad([h, w]), [dx]) => {
            pool::global_avg_pool_grad(h * w, info(0).shape.last(), operand(0), dx);
        }
        (Op::SoftmaxCrossEntropy { smoothing }, [loss]) => {
            let labels = loss::labels(operand(1), info(0).shape.last(), weights(2))?;
            loss::softmax_cross_entropy(operand(0), &labels, *smoothing, loss);
        }
        (Op::SoftmaxCrossEntropyGrad { smoothing }, [dlogits]) => {
            let labels = loss::labels(operand(1), info(0).shape.last(), weights(2))?;
            loss::softmax_cross_entropy_grad(operand(0), &labels, *smoothing, dlogits);
        }
        (Op::MeanSquaredError, [loss]) => loss::mean_squared_error(operand(0), operand(1), loss),
        (Op::MeanSquaredErrorGrad, [dy]) => loss::mean_squared_error_grad(operand(0), operand(1), dy),
        (Op::ElementLoss(of), [loss]) => loss::element_loss(*of, operand(0), operand(1), loss),
        (Op::ElementLossGrad(of), [dy]) => loss::element_loss_grad(*of, operand(0), operand(1), dy),
        (Op::SoftCrossEntropy, [loss]) => loss::soft_cross_entropy(operand(0), operand(1), loss),
        (Op::SoftCrossEntropyGrad, [dlogits]) => {
            loss::soft_cross_entropy_grad(info(0).shape.last(), operand(0), operand(1), dlogits);
        }
        (Op::BatchStatistics { epsilon }, [mean, inv_std, variance]) => {
            norm::statistics(operand(0), *epsilon, mean, inv_std, variance);
        }
        (Op::BatchNorm { epsilon }, [y]) => {
            let inv_std = norm::inv_std(operand(4), *epsilon);
            norm::normalize(operand(0), operand(1), operand(2), operand(3), &inv_std, y);
        }
        (Op::BatchNormGradScale { epsilon }, [dscale]) => {
            let inv_std = norm::inv_std(operand(3), *epsilon);
            norm::grad_scale(operand(0), operand(1), operand(2), &inv_std, dscale);
        }
        (Op::BatchNormGradInput, [dx]) => {
            dx.copy_from_slice(operand(1));
            let sums = [operand(5), operand(6)];
            norm::grad_input(operand(0), operand(2), operand(3), operand(4), sums, dx);
        }
        (Op::Normalize(of), [y, inv_std]) => {
            norm::normalize_sets(of, info(0).shape.last(), operand(0), y, inv_std)
        }
        (Op::NormalizeGrad(of), [dx]) => {
            let sets = norm::sets(of, info(0).shape.last(), operand(0).len(), operand(1).len());
            norm::normalize_sets_grad(&sets, operand(0), operand(1), operand(2), dx);
        }
        (Op::Reshape(_), [y]) => y.copy_from_slice(operand(0)),
        (Op::Metrics, [mean]) => {
            let total: f64 = operand(0).iter().sum();
            let examples = rows_used(info(0), rows);
            let (mut correct, mut weight) = (0, 0.0);
            if node.inputs.len() > 1 {
                let labels = loss::labels(operand(2), info(1).shape.last(), weights(3))?;
                correct = loss::correct(operand(1), &labels);
                weight = if weights(3).is_some() { labels.weight() } else { 0.0 };
            }
            mean[0] = total / if weight > 0.0 { weight } else { examples as f64 };
            if mean[0].is_finite() && !rejected {
                sums.loss += total;
                sums.correct += correct;
                sums.examples += examples as u64;
                sums.weight += weight;
            }
        }
        // Unreachable: `Graph::push` gives every operation the number of results matched above.
        (op, results) => {
            let got = format!("{} results", results.len());
            return Err(Error::argument(&node.label, format!("the results of {}", op.name()), got));
        }
    }
    Ok(())
}
