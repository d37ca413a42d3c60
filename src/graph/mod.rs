//! What one step computes: a flat list of mathematical operations over values with shapes.
//!
//! A [`Graph`] knows nothing of GPUs. It has two executors: [`crate::reference`] interprets it in f64 on the
//! CPU, and [`crate::engine::Plan`] compiles it for a device.

mod backward;
mod dropout;
mod op;
mod sweep;
mod update;
mod validate;

pub use dropout::Dropout;
pub use op::{Activation, Conv2d, Op, Pool2d, StatisticsRule, StepScalars};
pub use update::{Clip, Target, UpdateRule};

use crate::error::{Error, Result};
use crate::shape::Shape;

/// Names a value of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) usize);

/// Names a parameter of one graph, in order of declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterId(pub(crate) usize);

impl ParameterId {
    /// The parameter of this number in order of declaration.
    pub fn of(index: usize) -> Self {
        ParameterId(index)
    }

    /// Its number.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// A 32-bit float.
    F32,
    /// An unsigned 32-bit integer (labels, positions).
    U32,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Written by the caller before a run.
    Input,
    /// A parameter: kept between runs, changed by updates alone.
    Parameter(ParameterId),
    /// Computed in the run.
    Computed,
}

/// A tensor of the graph.
#[derive(Clone, Debug)]
pub struct Value {
    /// For messages and labels.
    pub name: String,
    /// Extents, for a full batch.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
    /// Whether the first axis is the batch, of which a run may use fewer rows.
    pub batched: bool,
    /// Where it comes from.
    pub role: Role,
    /// Whether it can be read after a run.
    pub output: bool,
}

impl Value {
    /// Elements of one example of a batched value; all elements of another.
    pub fn elements_per_row(&self) -> usize {
        if self.batched { self.shape.elements() / self.shape.extents()[0] } else { self.shape.elements() }
    }
}

/// What changes a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// The update, from its gradient.
    Trained,
    /// The forward pass of training, such as the running statistics of a batch norm.
    Statistic,
}

/// A tensor that is kept from step to step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its path, such as `conv1.kernel`.
    pub path: String,
    /// Its shape.
    pub shape: Shape,
    /// What changes it.
    pub kind: ParameterKind,
}

/// One operation with its operands.
#[derive(Clone, Debug)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Operands.
    pub inputs: Vec<ValueId>,
    /// Results.
    pub outputs: Vec<ValueId>,
    /// For messages, reports and debug labels: `conv1`, `conv1 grad_kernel`.
    pub label: String,
}

/// A list of operations in the order in which they run. See the module's text.
#[derive(Clone, Debug)]
pub struct Graph {
    batch: usize,
    values: Vec<Value>,
    nodes: Vec<Node>,
    parameters: Vec<Parameter>,
    parameter_values: Vec<ValueId>,
}

impl Graph {
    /// An empty graph for batches of up to `batch` examples (1 where no value is batched).
    ///
    /// # Errors
    /// [`Error::EmptyBatch`] for 0, [`Error::InvalidArgument`] over 2^20.
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

    /// All values, indexed by id.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value of this id; `None` for an id of another, larger graph.
    pub fn value(&self, id: ValueId) -> Option<&Value> {
        self.values.get(id.0)
    }

    /// The value of an id that is known to be this graph's: it was checked when its operation was pushed.
    pub(crate) fn at(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// All operations, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All parameters, in order of declaration.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The value that holds a parameter; `None` for a number that this graph does not have.
    pub fn parameter_value(&self, id: ParameterId) -> Option<ValueId> {
        self.parameter_values.get(id.0).copied()
    }

    /// Declares an input with the batch as its first axis; `example` is the shape of one example (empty for a scalar).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a shape too large.
    pub fn batch_input(&mut self, name: &str, example: &[usize], dtype: DType) -> Result<ValueId> {
        let mut extents = vec![self.batch];
        extents.extend_from_slice(example);
        let shape = Shape::new(extents)?;
        Ok(self.value_push(name, shape, dtype, true, Role::Input))
    }

    /// Declares an input of one fixed shape.
    pub fn input(&mut self, name: &str, shape: Shape, dtype: DType) -> ValueId {
        self.value_push(name, shape, dtype, false, Role::Input)
    }

    /// Declares a parameter that is trained. Its initial value is given to the executor.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the path is taken.
    pub fn parameter(&mut self, path: &str, shape: Shape) -> Result<ValueId> {
        self.declare(path, shape, ParameterKind::Trained)
    }

    /// Declares a parameter of this kind. Its initial value is given to the executor.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the path is taken.
    pub fn declare(&mut self, path: &str, shape: Shape, kind: ParameterKind) -> Result<ValueId> {
        if self.parameters.iter().any(|p| p.path == path) {
            return Err(Error::argument(path, "a path that no other parameter has", "a second one"));
        }
        let id = ParameterId(self.parameters.len());
        self.parameters.push(Parameter { path: path.to_owned(), shape: shape.clone(), kind });
        let value = self.value_push(path, shape, DType::F32, false, Role::Parameter(id));
        self.parameter_values.push(value);
        Ok(value)
    }

    /// The value of a parameter that is known to be this graph's.
    pub(crate) fn at_parameter(&self, id: ParameterId) -> ValueId {
        self.parameter_values[id.0]
    }

    /// Makes a value readable after a run.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an id of another graph.
    pub fn mark_output(&mut self, value: ValueId) -> Result<()> {
        match self.values.get_mut(value.0) {
            Some(value) => {
                value.output = true;
                Ok(())
            }
            None => Err(Error::argument("Graph::mark_output", "a value of this graph", "a value of another")),
        }
    }

    /// Appends an operation; shapes are checked and the results' shapes worked out.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] or [`Error::InvalidArgument`], naming `label`.
    pub fn push(&mut self, op: Op, inputs: &[ValueId], label: &str) -> Result<Vec<ValueId>> {
        if inputs.iter().any(|i| i.0 >= self.values.len()) {
            return Err(Error::argument(label, "values of this graph", "a value of another"));
        }
        let results = validate::results(self, &op, inputs, label)?;
        let outputs: Vec<_> = results
            .into_iter()
            .map(|r| {
                let name =
                    if r.suffix.is_empty() { label.to_owned() } else { format!("{label} {}", r.suffix) };
                self.value_push(&name, r.shape, r.dtype, r.batched, Role::Computed)
            })
            .collect();
        let node = Node { op, inputs: inputs.to_vec(), outputs: outputs.clone(), label: label.to_owned() };
        self.nodes.push(node);
        Ok(outputs)
    }

    /// [`Graph::push`] for operations with one result.
    ///
    /// # Errors
    /// As `push`; [`Error::InvalidArgument`] if the operation has no result.
    pub fn push_one(&mut self, op: Op, inputs: &[ValueId], label: &str) -> Result<ValueId> {
        let results = self.push(op, inputs, label)?;
        results
            .first()
            .copied()
            .ok_or_else(|| Error::argument(label, "an operation with a result", "one without"))
    }

    /// Appends the mean of each example's elements, `[n]`: losses for [`Op::Metrics`] from a value `[n, ..]`. Three operations,
    /// for means over pixels are there already.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a value without a batch axis, of integers, or of another graph.
    pub fn mean_per_example(&mut self, x: ValueId, label: &str) -> Result<ValueId> {
        let of = self.value(x).filter(|value| value.batched && value.dtype == DType::F32);
        let Some(value) = of else {
            return Err(Error::argument(label, "a value of floats with a batch axis", "another"));
        };
        let pixels = vec![self.batch, value.elements_per_row(), 1, 1];
        let pixels = self.push_one(Op::Reshape(pixels), &[x], label)?;
        let mean = self.push_one(Op::GlobalAvgPool, &[pixels], label)?;
        self.push_one(Op::Reshape(vec![self.batch]), &[mean], label)
    }

    fn value_push(&mut self, name: &str, shape: Shape, dtype: DType, batched: bool, role: Role) -> ValueId {
        self.values.push(Value { name: name.to_owned(), shape, dtype, batched, role, output: false });
        ValueId(self.values.len() - 1)
    }
}
