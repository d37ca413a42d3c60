//! Validation of operands and shape inference of results, one function per operation.

mod channels;
mod elementwise;
mod linear;
mod loss;
mod norm;
mod update;
mod window;

use super::{DType, Graph, Op, ParameterId, Value, ValueId};
use crate::error::{Error, Result};
use crate::shape::Shape;

/// A result of an operation, as inferred from its operands.
pub(super) struct ResultInfo {
    pub shape: Shape,
    pub dtype: DType,
    pub batched: bool,
    /// Suffix that is appended to the operation's label to name the value; empty if the operation has a
    /// single result.
    pub suffix: &'static str,
}

fn result(extents: impl Into<Vec<usize>>, batched: bool) -> Result<ResultInfo> {
    Ok(ResultInfo { shape: Shape::new(extents)?, dtype: DType::F32, batched, suffix: "" })
}

/// Validates the operands of `op` and infers its results.
///
/// # Errors
/// [`Error::ShapeMismatch`] or [`Error::InvalidArgument`], naming `label`.
pub(super) fn results(graph: &Graph, op: &Op, inputs: &[ValueId], label: &str) -> Result<Vec<ResultInfo>> {
    let o = &Operands { label, values: inputs.iter().map(|&i| graph.at(i)).collect() };
    match op {
        Op::Conv2d(c) => window::conv2d(o, c),
        Op::Conv2dGradInput(c) => window::conv2d_grad_input(o, c),
        Op::Conv2dGradKernel(c) => window::conv2d_grad_kernel(o, c),
        Op::MatMul { transpose_a, transpose_b } => linear::matmul(o, *transpose_a, *transpose_b),
        Op::BiasAdd => linear::bias_add(o),
        Op::BiasGrad => linear::bias_grad(o),
        Op::MulChannels => channels::mul(o),
        Op::Concat => channels::concat(o),
        Op::SliceChannels { begin, channels } => channels::slice(o, *begin, *channels),
        Op::PadChannels { begin, channels } => channels::pad(o, *begin, *channels),
        Op::Scale(factor) => elementwise::scale(o, *factor),
        Op::Relu | Op::MeanGrad => elementwise::elementwise(o, 1),
        Op::Add | Op::Mul | Op::ReluGrad => elementwise::elementwise(o, 2),
        Op::Activation(a) => elementwise::activation(o, *a, 1),
        Op::ActivationGrad(a) => elementwise::activation(o, *a, 2),
        Op::Softmax | Op::LogSoftmax => elementwise::softmax(o, 1),
        Op::SoftmaxGrad | Op::LogSoftmaxGrad => elementwise::softmax(o, 2),
        Op::Dropout(d) => elementwise::dropout(o, d),
        Op::MaxPool2d(p) => window::max_pool2d(o, p),
        Op::MaxPool2dGrad(p) => window::max_pool2d_grad(o, p),
        Op::AvgPool2d(p) => window::avg_pool2d(o, p),
        Op::AvgPool2dGrad(p) => window::avg_pool2d_grad(o, p),
        Op::Resample2d(r) => window::resample2d(o, r),
        Op::GlobalAvgPool => window::global_avg_pool(o),
        Op::GlobalAvgPoolGrad(size) => window::global_avg_pool_grad(o, *size),
        Op::SoftmaxCrossEntropy { smoothing } => loss::cross_entropy(o, *smoothing, false),
        Op::SoftmaxCrossEntropyGrad { smoothing } => loss::cross_entropy(o, *smoothing, true),
        Op::MeanSquaredError => loss::squared_error(o, false),
        Op::MeanSquaredErrorGrad => loss::squared_error(o, true),
        Op::ElementLoss(of) => loss::element_loss(o, of, false),
        Op::ElementLossGrad(of) => loss::element_loss(o, of, true),
        Op::SoftCrossEntropy => loss::soft_cross_entropy(o, false),
        Op::SoftCrossEntropyGrad => loss::soft_cross_entropy(o, true),
        Op::BatchStatistics { epsilon } => norm::statistics(o, *epsilon),
        Op::BatchNorm { epsilon } => norm::normalize(o, *epsilon),
        Op::BatchNormGradScale { epsilon } => norm::grad_scale(o, *epsilon),
        Op::BatchNormGradInput => norm::grad_input(o),
        Op::Normalize(of) => norm::normalize_sets(o, of, false),
        Op::NormalizeGrad(of) => norm::normalize_sets(o, of, true),
        Op::UpdateStatistics(rule, targets) => norm::update_statistics(graph, o, rule, targets),
        Op::Reshape(extents) => reshape(o, extents),
        Op::Metrics => loss::metrics(o),
        Op::Accumulate(targets) => update::accumulate(graph, o, targets),
        Op::Clip(clip, targets) => update::clip_gradients(graph, o, *clip, targets),
        Op::Update(_, targets) => update::update(graph, o, targets),
    }
}

fn reshape(o: &Operands, extents: &[usize]) -> Result<Vec<ResultInfo>> {
    o.count(1)?;
    let x = o.values[0];
    let shape = Shape::new(extents)?;
    let batch_kept = !x.batched || shape.extents().first() == x.shape.extents().first();
    if shape.elements() != x.shape.elements() || !batch_kept {
        let mut expected = format!("{} elements", x.shape.elements());
        if x.batched {
            expected += &format!(", first axis {} (the batch)", x.shape.extents()[0]);
        }
        return Err(Error::shape(o.label, expected, &shape));
    }
    Ok(vec![ResultInfo { shape, dtype: x.dtype, batched: x.batched, suffix: "" }])
}

/// Returns the error for an update whose target is not a parameter of this graph.
fn foreign_parameter(graph: &Graph, o: &Operands, target: ParameterId) -> Error {
    let expected = format!("a parameter of this graph (index below {})", graph.parameters().len());
    Error::argument(o.label, expected, format!("index {}", target.0))
}

/// The operands of an operation, with checks that are common to several operations.
struct Operands<'a> {
    /// Label of the operation, for errors.
    label: &'a str,
    values: Vec<&'a Value>,
}

impl<'a> Operands<'a> {
    /// Label of the operation and name of the operand, for errors.
    fn operand(&self, index: usize) -> String {
        format!("{}: {}", self.label, self.values[index].name)
    }

    fn count(&self, n: usize) -> Result<()> {
        if self.values.len() == n {
            return Ok(());
        }
        Err(Error::argument(self.label, format!("{n} operands"), self.values.len()))
    }

    fn float(&self, index: usize) -> Result<&'a Value> {
        self.of(index, DType::F32)
    }

    fn of(&self, index: usize, dtype: DType) -> Result<&'a Value> {
        let value = self.values[index];
        if value.dtype == dtype {
            return Ok(value);
        }
        Err(Error::argument(self.operand(index), dtype.to_string(), value.dtype))
    }

    /// Checks that operand `index` has a batch axis.
    fn batched(&self, index: usize) -> Result<()> {
        if self.values[index].batched {
            return Ok(());
        }
        Err(Error::argument(
            self.operand(index),
            "a value with a batch axis (Graph::batch_input)",
            "a value without a batch axis",
        ))
    }

    /// Checks that operand `index` has no batch axis.
    fn unbatched(&self, index: usize) -> Result<()> {
        if !self.values[index].batched {
            return Ok(());
        }
        Err(Error::argument(self.operand(index), "a value without a batch axis", "a value with a batch axis"))
    }

    /// Checks the extents of operand `index`; `None` matches any extent (the batch).
    fn shape(&self, index: usize, expected: &[Option<usize>]) -> Result<()> {
        let value = self.values[index];
        let extents = value.shape.extents();
        let matches = extents.len() == expected.len()
            && extents.iter().zip(expected).all(|(a, e)| e.is_none_or(|e| e == *a));
        if matches {
            return Ok(());
        }
        let words: Vec<_> = expected.iter().map(|e| e.map_or("n".to_owned(), |e| e.to_string())).collect();
        Err(Error::shape(self.operand(index), format!("[{}]", words.join(", ")), &value.shape))
    }

    /// Checks that two operands have the same first extent, and that it is the batch axis in both or in
    /// neither.
    fn same_rows(&self, a: usize, b: usize) -> Result<()> {
        let (va, vb) = (self.values[a], self.values[b]);
        if va.shape.extents().first() == vb.shape.extents().first() && va.batched == vb.batched {
            return Ok(());
        }
        let expected = format!("the rows of {} {}{}", va.name, va.shape, batch_suffix(va));
        Err(Error::shape(self.operand(b), expected, format!("{}{}", vb.shape, batch_suffix(vb))))
    }

    /// Checks that operand `b` has the shape of operand `a`, and a batch axis if `a` has one.
    fn same_shape(&self, a: usize, b: usize) -> Result<()> {
        let (va, vb) = (self.values[a], self.values[b]);
        if va.shape == vb.shape && va.batched == vb.batched {
            return Ok(());
        }
        let [expected, got] = [va, vb].map(|value| format!("{}{}", value.shape, batch_suffix(value)));
        Err(Error::shape(self.operand(b), expected, got))
    }
}

fn batch_suffix(value: &Value) -> &'static str {
    if value.batched { " (batched)" } else { " (unbatched)" }
}

#[cfg(test)]
mod tests {
    use crate::graph::{Conv2d, DType, Graph, Op, ParameterId, UpdateRule};
    use crate::shape::{Shape, Window};

    #[test]
    fn rejects_invalid_groups_and_stride_of_convolution() {
        let mut graph = Graph::new(1).unwrap();
        let x = graph.batch_input("x", &[3, 3, 4], DType::F32).unwrap();
        let kernel = graph.input("kernel", Shape::new([2, 2, 4, 6]).unwrap(), DType::F32);
        let valid = Conv2d::new([3, 3, 4], 6, Window::new([2, 2]), 1, "conv").unwrap();
        for groups in [0, 4] {
            assert!(graph.push(Op::Conv2d(Conv2d { groups, ..valid }), &[x, kernel], "conv").is_err());
        }
        let mut zero_stride = valid;
        zero_stride.window.stride = [0, 1];
        assert!(graph.push(Op::Conv2d(zero_stride), &[x, kernel], "conv").is_err());
    }

    #[test]
    fn rejects_bias_along_batch_axis() {
        let mut graph = Graph::new(3).unwrap();
        let x = graph.batch_input("x", &[3], DType::F32).unwrap();
        let row = graph.batch_input("row", &[], DType::F32).unwrap();
        let bias = graph.input("bias", Shape::new([3]).unwrap(), DType::F32);
        assert!(graph.push(Op::BiasAdd, &[x, row], "bias").is_err());
        assert!(graph.push(Op::BiasAdd, &[row, bias], "bias").is_err());
        assert!(graph.push(Op::BiasGrad, &[row], "bias").is_err());
        assert!(graph.push(Op::BiasAdd, &[x, bias], "bias").is_ok());
    }

    #[test]
    fn rejects_second_update_of_parameter() {
        let mut graph = Graph::new(1).unwrap();
        let w = graph.parameter("w", Shape::new([3]).unwrap()).unwrap();
        let gradient = graph.push_one(Op::Relu, &[w], "gradient").unwrap();
        let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        let update = Op::Update(rule, vec![ParameterId(0).into()]);
        assert!(graph.push(update.clone(), &[gradient], "update").is_ok());
        assert!(graph.push(update, &[gradient], "update").is_err());
    }
}
