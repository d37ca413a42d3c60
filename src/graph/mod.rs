//! The computation graph of one step: a flat list of operations over values with static shapes.
//!
//! A [`Graph`] is independent of any device. It has two executors: [`crate::reference`] interprets it in f64
//! on the CPU, and [`crate::engine::Plan`] compiles it for a GPU.

mod backward;
mod op;
mod resample;
mod update;
mod validate;

pub use op::{
    Activation, Conv2d, Dropout, ElementLoss, Normalization, Op, Pool2d, StatisticsRule, StepScalars,
};
pub use resample::{Resample2d, Resampling, ResamplingRule};
pub use update::{Clip, Target, UpdateRule};

use crate::error::{Error, Result};
use crate::shape::Shape;

/// Identifier of a value, valid in the graph that returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) usize);

/// Identifier of a parameter: its index in declaration order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterId(pub(crate) usize);

impl ParameterId {
    /// The parameter at `index` in declaration order.
    pub fn of(index: usize) -> Self {
        ParameterId(index)
    }

    /// The index in declaration order.
    pub fn index(self) -> usize {
        self.0
    }
}

/// Element type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// A 32-bit float.
    F32,
    /// An unsigned 32-bit integer (class labels, pooling positions).
    U32,
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DType::F32 => "F32",
            DType::U32 => "U32",
        })
    }
}

/// Origin of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Written by the caller before a run.
    Input,
    /// A parameter: persists between runs and changes only through update operations.
    Parameter(ParameterId),
    /// The result of an operation.
    Computed,
}

/// A tensor of the graph: an input, a parameter or the result of an operation.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Value {
    /// Name used in error messages and debug labels.
    pub name: String,
    /// Shape for a full batch.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
    /// Whether the first axis is the batch axis; a run may use fewer rows than its extent.
    pub batched: bool,
    /// Origin: input, parameter or result of an operation.
    pub role: Role,
    /// Whether the value can be read after a run.
    pub output: bool,
}

impl Value {
    /// Elements per example of a batched value, or all elements of an unbatched one.
    pub fn elements_per_row(&self) -> usize {
        if self.batched { self.shape.elements() / self.shape.extents()[0] } else { self.shape.elements() }
    }
}

/// How a parameter is updated.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Trained: updated by [`Op::Update`] from its gradient.
    Trained,
    /// Running statistic, such as the running mean of a batch norm: updated by [`Op::UpdateStatistics`].
    Statistic,
}

/// A parameter: a tensor that persists from step to step.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Path, such as `conv1.kernel`.
    pub path: String,
    /// Shape.
    pub shape: Shape,
    /// Whether it is trained or a running statistic.
    pub kind: ParameterKind,
}

/// One operation with its operands and results.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Node {
    /// Operation.
    pub op: Op,
    /// Operands.
    pub inputs: Vec<ValueId>,
    /// Results.
    pub outputs: Vec<ValueId>,
    /// Label used in error messages, reports and GPU debug labels: `conv1`, `conv1 grad_kernel`.
    pub label: String,
}

/// A list of operations in execution order. See [`low_level`](crate::low_level) for an example.
#[derive(Clone, Debug)]
pub struct Graph {
    batch: usize,
    values: Vec<Value>,
    nodes: Vec<Node>,
    parameters: Vec<Parameter>,
    parameter_values: Vec<ValueId>,
}

const _: () = crate::error::assert_send_sync::<Graph>();

impl Graph {
    /// Creates an empty graph for batches of up to `batch` examples. Use 1 if no value is batched.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`] for a batch of 0; [`Error::InvalidArgument`] for a batch above 2^20.
    pub fn new(batch: usize) -> Result<Self> {
        match batch {
            0 => Err(Error::EmptyBatch { at: "Graph::new".into() }),
            1..=1_048_576 => Ok(Graph {
                batch,
                values: Vec::new(),
                nodes: Vec::new(),
                parameters: Vec::new(),
                parameter_values: Vec::new(),
            }),
            _ => Err(Error::argument("batch", "at most 1,048,576", batch)),
        }
    }

    /// Examples in a full batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// All values, indexed by [`ValueId`].
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value with this id, or `None` if the id is out of range (from another graph).
    pub fn value(&self, id: ValueId) -> Option<&Value> {
        self.values.get(id.0)
    }

    /// The value with an id that [`Graph::push`] has already validated; panics otherwise.
    pub(crate) fn at(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// All operations, in execution order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All parameters, in declaration order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The value of a parameter, or `None` if the id is out of range.
    pub fn parameter_value(&self, id: ParameterId) -> Option<ValueId> {
        self.parameter_values.get(id.0).copied()
    }

    /// Declares an input of shape `[batch, ..example]`; `example` is the shape of one example (empty for a
    /// scalar).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a zero extent or more than [`crate::shape::MAX_ELEMENTS`] elements.
    pub fn batch_input(&mut self, name: &str, example: &[usize], dtype: DType) -> Result<ValueId> {
        let mut extents = vec![self.batch];
        extents.extend_from_slice(example);
        let shape = Shape::new(extents)?;
        Ok(self.push_value(name, shape, dtype, true, Role::Input))
    }

    /// Declares an input without a batch axis.
    pub fn input(&mut self, name: &str, shape: Shape, dtype: DType) -> ValueId {
        self.push_value(name, shape, dtype, false, Role::Input)
    }

    /// Declares a trained parameter. The initial value is written through the executor.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if another parameter has this path.
    pub fn parameter(&mut self, path: &str, shape: Shape) -> Result<ValueId> {
        self.declare(path, shape, ParameterKind::Trained)
    }

    /// Declares a parameter of the given kind. The initial value is written through the executor.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if another parameter has this path.
    pub fn declare(&mut self, path: &str, shape: Shape, kind: ParameterKind) -> Result<ValueId> {
        if self.parameters.iter().any(|p| p.path == path) {
            return Err(Error::argument("parameter path", "a unique path", format!("{path:?} twice")));
        }
        let id = ParameterId(self.parameters.len());
        self.parameters.push(Parameter { path: path.to_owned(), shape: shape.clone(), kind });
        let value = self.push_value(path, shape, DType::F32, false, Role::Parameter(id));
        self.parameter_values.push(value);
        Ok(value)
    }

    /// The value of a parameter id that is already validated; panics otherwise.
    pub(crate) fn at_parameter(&self, id: ParameterId) -> ValueId {
        self.parameter_values[id.0]
    }

    /// Marks a value as readable after a run.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an id from another graph.
    pub fn mark_output(&mut self, value: ValueId) -> Result<()> {
        match self.values.get_mut(value.0) {
            Some(value) => {
                value.output = true;
                Ok(())
            }
            None => Err(foreign_value("Graph::mark_output")),
        }
    }

    /// Appends an operation after validating its operands; returns its results, whose shapes are inferred.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] or [`Error::InvalidArgument`], naming `label`, if the operands are invalid
    /// for `op`.
    pub fn push(&mut self, op: Op, inputs: &[ValueId], label: &str) -> Result<Vec<ValueId>> {
        if inputs.iter().any(|i| i.0 >= self.values.len()) {
            return Err(foreign_value(label));
        }
        let results = validate::results(self, &op, inputs, label)?;
        let outputs: Vec<_> = results
            .into_iter()
            .map(|r| {
                let name =
                    if r.suffix.is_empty() { label.to_owned() } else { format!("{label} {}", r.suffix) };
                self.push_value(&name, r.shape, r.dtype, r.batched, Role::Computed)
            })
            .collect();
        let node = Node { op, inputs: inputs.to_vec(), outputs: outputs.clone(), label: label.to_owned() };
        self.nodes.push(node);
        Ok(outputs)
    }

    /// Appends an operation as [`Graph::push`] does and returns its first result.
    ///
    /// # Errors
    /// As [`Graph::push`]; [`Error::InvalidArgument`] if the operation has no result.
    pub fn push_one(&mut self, op: Op, inputs: &[ValueId], label: &str) -> Result<ValueId> {
        let name = op.name();
        let results = self.push(op, inputs, label)?;
        results.first().copied().ok_or_else(|| {
            Error::argument(label, "an operation with a result", format!("{name}, which has none"))
        })
    }

    /// Appends the mean over the elements of each example, `[n, ..]` to `[n]`: a loss for [`Op::Metrics`].
    ///
    /// Composed of [`Op::Reshape`] and [`Op::GlobalAvgPool`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a value that is unbatched, not [`DType::F32`], or from another graph.
    pub fn mean_per_example(&mut self, x: ValueId, label: &str) -> Result<ValueId> {
        let value = self.value(x).ok_or_else(|| foreign_value(label))?;
        if !value.batched || value.dtype != DType::F32 {
            let batched = if value.batched { "batched" } else { "unbatched" };
            return Err(Error::argument(
                format!("{label}: {}", value.name),
                "a batched F32 value",
                format!("{batched} {}", value.dtype),
            ));
        }
        let extents = vec![self.batch, value.elements_per_row(), 1, 1];
        let pixels = self.push_one(Op::Reshape(extents), &[x], label)?;
        let mean = self.push_one(Op::GlobalAvgPool, &[pixels], label)?;
        self.push_one(Op::Reshape(vec![self.batch]), &[mean], label)
    }

    fn push_value(&mut self, name: &str, shape: Shape, dtype: DType, batched: bool, role: Role) -> ValueId {
        self.values.push(Value { name: name.to_owned(), shape, dtype, batched, role, output: false });
        ValueId(self.values.len() - 1)
    }
}

fn foreign_value(at: &str) -> Error {
    Error::argument(at, "a value of this graph", "a value of another graph")
}
