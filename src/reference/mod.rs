//! The definition of every operation in f64, and an interpreter of a [`Graph`]: what all kernels are compared with.
//!
//! Plain loops on the CPU, in the order of the formulas. Speed is no aim; being right at a glance is.

mod activation;
mod conv;
mod dropout;
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
use update::{Clipping, accumulate, update_all};

/// What [`Op::Metrics`] has added up since the start or the last [`Reference::reset_sums`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// The sum of all examples' losses, in nats.
    pub loss: f64,
    /// Examples whose largest logit (the first of equals) is the label's.
    pub correct: u64,
    /// Examples seen.
    pub examples: u64,
    /// The sum of their labels' weights; 0 where classes have none.
    pub weight: f64,
}

/// Interprets one graph in f64. It owns all values, the parameters, their masks and optimizer state, and the running
/// sums. Elements of [`DType::U32`] are stored as f64, which holds them exactly.
///
/// A mean loss that is NaN or infinite is kept out of the sums and sets a flag for good: updates after that node, in this
/// run and in all later ones, are skipped, unless a run asks to go on ([`StepScalars::on_non_finite_continue`] = 1).
#[derive(Clone, Debug)]
pub struct Reference {
    graph: Graph,
    values: Vec<Vec<f64>>,
    masks: Vec<Mask>,
    /// By parameter, then by slot as [`crate::graph::UpdateRule::slots`] names them.
    states: Vec<Vec<Vec<f64>>>,
    /// Sums of an update's batches so far, by parameter; empty where nothing is accumulated.
    accumulated: Vec<Vec<f64>>,
    clipping: Clipping,
    sums: Sums,
    stopped: bool,
}

impl Reference {
    /// All values, parameters and state 0, nothing frozen.
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
                    let got = format!("a second one for {}", parameters[index].path);
                    return Err(Error::argument(&node.label, "one update of each parameter", got));
                }
            }
        }
        Ok(Reference {
            values: graph.values().iter().map(|v| vec![0.0; v.shape.elements()]).collect(),
            masks: parameters.iter().map(|p| Mask::none(p.shape.elements())).collect(),
            states: states.into_iter().map(Option::unwrap_or_default).collect(),
            accumulated: vec![Vec::new(); parameters.len()],
            clipping: Clipping::default(),
            graph: graph.clone(),
            sums: Sums::default(),
            stopped: false,
        })
    }

    /// Sets an input or a parameter: all elements, row-major, a full batch.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another number of elements; [`Error::InvalidArgument`] for a computed value, a value
    /// of another graph, or an element of a [`DType::U32`] value that is not such an integer.
    pub fn write(&mut self, value: ValueId, data: &[f64]) -> Result<()> {
        let Some(target) = self.graph.values().get(value.0) else {
            return Err(Error::argument("Reference::write", "a value of this graph", "a value of another"));
        };
        if target.role == Role::Computed {
            return Err(Error::argument(&target.name, "an input or a parameter", "a computed value"));
        }
        if data.len() != target.shape.elements() {
            let expected = format!("{} elements for {}", target.shape.elements(), target.shape);
            return Err(Error::shape(&target.name, expected, data.len()));
        }
        let fits = |x: f64| x.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&x);
        if target.dtype == DType::U32
            && let Some(&wrong) = data.iter().find(|&&x| !fits(x))
        {
            return Err(Error::argument(&target.name, "integers of 32 bits", wrong));
        }
        self.values[value.0].copy_from_slice(data);
        Ok(())
    }

    /// Sets which elements of a parameter updates leave alone. Weights and state stay as they are.
    ///
    /// # Errors
    /// [`Error::MaskMismatch`] for another number of elements; [`Error::InvalidArgument`] for a parameter of another
    /// graph.
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

    /// Runs all operations in order on the first `step.rows` rows of every batched value; rows beyond are not read, and
    /// those of results are left as they are. Means are over the rows used.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`] for no rows; [`Error::InvalidArgument`] for more rows than the graph's batch;
    /// [`Error::LabelOutOfRange`] for a label without a logit, with operations before that one already done.
    pub fn run(&mut self, step: StepScalars) -> Result<()> {
        let rows = step.rows as usize;
        if rows == 0 {
            return Err(Error::EmptyBatch { at: "Reference::run".into() });
        }
        if rows > self.graph.batch() {
            let expected = format!("at most {} rows, the graph's batch", self.graph.batch());
            return Err(Error::argument("Reference::run", expected, rows));
        }
        let Reference { graph, values, masks, states, accumulated, clipping, sums, stopped } = self;
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
                        update_all(graph, node, rule, targets, &step, clipping, values, masks, states);
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
                        norm::follow(rule.momentum, factor, batch, &masks[target.0], &mut running);
                        values[graph.at_parameter(target).0] = running;
                    }
                }
                continue;
            }
            // No operation reads its own results, so they can be taken out while it runs.
            let mut results: Vec<_> =
                node.outputs.iter().map(|id| std::mem::take(&mut values[id.0])).collect();
            let done = compute(graph, node, &step, values, &mut results, sums);
            for (id, result) in node.outputs.iter().zip(results) {
                values[id.0] = result;
            }
            done?;
            if node.op == Op::Metrics {
                *stopped |= !values[node.outputs[0].0][0].is_finite();
            }
        }
        Ok(())
    }

    /// A value's elements, row-major, a full batch; empty for a value of another graph.
    pub fn read(&self, value: ValueId) -> &[f64] {
        self.values.get(value.0).map_or(&[], Vec::as_slice)
    }

    /// One tensor of a parameter's optimizer state, numbered as [`crate::graph::UpdateRule::slots`]; empty if there is none.
    pub fn state(&self, parameter: ParameterId, slot: usize) -> &[f64] {
        self.states.get(parameter.0).and_then(|s| s.get(slot)).map_or(&[], Vec::as_slice)
    }

    /// Sets one tensor of a parameter's optimizer state, frozen elements included.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if there is no such slot; [`Error::ShapeMismatch`] for another number of elements.
    pub fn write_state(&mut self, parameter: ParameterId, slot: usize, data: &[f64]) -> Result<()> {
        let Some(target) = self.graph.parameters().get(parameter.0) else {
            return Err(foreign_parameter("Reference::write_state"));
        };
        let slots = &mut self.states[parameter.0];
        let count = slots.len();
        let Some(state) = slots.get_mut(slot) else {
            return Err(Error::argument(&target.path, format!("a slot below {count}"), slot));
        };
        if data.len() != state.len() {
            let at = format!("{} state {slot}", target.path);
            return Err(Error::shape(at, format!("{} elements", state.len()), data.len()));
        }
        state.copy_from_slice(data);
        Ok(())
    }

    /// The norm that the last [`crate::graph::Clip::Norm`] measured, before clipping; 0 before any.
    pub fn gradient_norm(&self) -> f64 {
        self.clipping.norm
    }

    /// The running sums.
    pub fn sums(&self) -> Sums {
        self.sums
    }

    /// Sets the running sums to 0. The flag of a non-finite loss stays.
    pub fn reset_sums(&mut self) {
        self.sums = Sums::default();
    }
}

fn foreign_parameter(at: &str) -> Error {
    Error::argument(at, "a parameter of this graph", "a parameter of another")
}

/// Rows in use: of the batch, or all of the first axis where that is not the batch.
fn rows_used(value: &Value, rows: usize) -> usize {
    if value.batched { rows } else { value.shape.extents().first().copied().unwrap_or(1) }
}

/// Elements in use, from the start.
fn elements_used(value: &Value, rows: usize) -> usize {
    if value.batched { rows * value.elements_per_row() } else { value.shape.elements() }
}

/// Any operation but those of the update and of the running statistics. `results` are whole tensors.
fn compute(
    graph: &Graph,
    node: &Node,
    step: &StepScalars,
    values: &[Vec<f64>],
    results: &mut [Vec<f64>],
    sums: &mut Sums,
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
        (Op::Add, [y]) => linear::add(operand(0), operand(1), y),
        (Op::Mul, [y]) => linear::mul(operand(0), operand(1), y),
        (Op::Scale(factor), [y]) => linear::scale(*factor, operand(0), y),
        (Op::MeanGrad, [dx]) => linear::mean_grad(dx),
        (Op::Relu, [y]) => activation::relu(operand(0), y),
        (Op::Activation(a), [y]) => activation::activation(*a, operand(0), y),
        (Op::ActivationGrad(a), [dx]) => activation::activation_grad(*a, operand(0), operand(1), dx),
        (Op::Softmax, [y]) => activation::softmax(info(0).shape.last(), operand(0), y),
        (Op::SoftmaxGrad, [dx]) => activation::softmax_grad(info(0).shape.last(), operand(0), operand(1), dx),
        (Op::ReluGrad, [dx]) => activation::relu_grad(operand(0), operand(1), dx),
        (Op::AvgPool2d(p), [y]) => pool::avg_pool2d(p, operand(0), y),
        (Op::AvgPool2dGrad(p), [dx]) => pool::avg_pool2d_grad(p, operand(0), dx),
        (Op::Dropout(d), [y]) => dropout::dropout(d, step, operand(0), y),
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
        (Op::BatchStatistics { epsilon }, [mean, inv_std, variance]) => {
            norm::statistics(operand(0), *epsilon, mean, inv_std, variance);
        }
        (Op::BatchNorm { epsilon }, [y]) => {
            let inv_std = norm::inv_std(operand(4), *epsilon);
            norm::normalise(operand(0), operand(1), operand(2), operand(3), &inv_std, y);
        }
        (Op::BatchNormGradScale, [dscale]) => {
            norm::grad_scale(operand(0), operand(1), operand(2), operand(3), dscale);
        }
        (Op::BatchNormGradInput, [dx]) => {
            dx.copy_from_slice(operand(1));
            let sums = [operand(5), operand(6)];
            norm::grad_input(operand(0), operand(2), operand(3), operand(4), sums, dx);
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
            if mean[0].is_finite() {
                sums.loss += total;
                sums.correct += correct;
                sums.examples += examples as u64;
                sums.weight += weight;
            }
        }
        // `Graph::push` gives every operation the results matched above.
        (op, results) => {
            let got = format!("{} results", results.len());
            return Err(Error::argument(&node.label, format!("the results of {}", op.name()), got));
        }
    }
    Ok(())
}
