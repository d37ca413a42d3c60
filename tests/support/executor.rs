//! Common interface of the reference interpreter and a device, so that the same tests run on both.

use frazil::Result;
use frazil::low_level::Reference;
use frazil::low_level::Shape;
use frazil::low_level::{DType, Graph, Op, ParameterId, StepScalars, ValueId};
use frazil::mask::Mask;

/// Runs a graph: writes inputs and parameters, executes steps, and reads values and optimizer state.
pub trait Executor {
    fn write(&mut self, value: ValueId, data: &[f64]) -> Result<()>;
    fn set_mask(&mut self, parameter: ParameterId, mask: &Mask) -> Result<()>;
    /// Sets how many steps each element missed, for the bias correction of Adam.
    fn set_missed_steps(&mut self, parameter: ParameterId, missed: &[u32]) -> Result<()>;
    fn run(&mut self, step: StepScalars) -> Result<()>;
    fn read(&mut self, value: ValueId) -> Vec<f64>;
    fn state(&mut self, parameter: ParameterId, slot: usize) -> Vec<f64>;
    fn write_state(&mut self, parameter: ParameterId, slot: usize, data: &[f64]) -> Result<()>;
}

/// Function that creates an executor for a graph.
pub type Make<'a> = &'a dyn Fn(&Graph) -> Box<dyn Executor>;

impl Executor for Reference {
    fn write(&mut self, value: ValueId, data: &[f64]) -> Result<()> {
        Reference::write(self, value, data)
    }
    fn set_mask(&mut self, parameter: ParameterId, mask: &Mask) -> Result<()> {
        Reference::set_mask(self, parameter, mask)
    }
    fn set_missed_steps(&mut self, parameter: ParameterId, missed: &[u32]) -> Result<()> {
        Reference::set_missed_steps(self, parameter, missed)
    }
    fn run(&mut self, step: StepScalars) -> Result<()> {
        Reference::run(self, step)
    }
    fn read(&mut self, value: ValueId) -> Vec<f64> {
        Reference::read(self, value).to_vec()
    }
    fn state(&mut self, parameter: ParameterId, slot: usize) -> Vec<f64> {
        Reference::state(self, parameter, slot).to_vec()
    }
    fn write_state(&mut self, parameter: ParameterId, slot: usize, data: &[f64]) -> Result<()> {
        Reference::write_state(self, parameter, slot, data)
    }
}

/// Creates the reference interpreter of a graph.
pub fn reference(graph: &Graph) -> Box<dyn Executor> {
    Box::new(Reference::new(graph).unwrap())
}

/// A fault of a [`Faulty`] executor.
#[derive(Clone, Copy)]
pub enum Fault {
    /// In graphs whose first operation is `op`, multiplies the largest element of every tensor that is read
    /// back by `factor`.
    Scale { op: &'static str, factor: f64 },
    /// Ignores masks.
    NoMask,
    /// Ignores writes of optimizer state.
    NoState,
    /// Ignores missed steps.
    NoMissedSteps,
}

/// An executor with an injected fault. Tests use it to show that a comparison detects the fault.
pub struct Faulty {
    inner: Box<dyn Executor>,
    fault: Fault,
    /// Name of the graph's first operation.
    first: &'static str,
}

impl Faulty {
    pub fn boxed(inner: Make, graph: &Graph, fault: Fault) -> Box<dyn Executor> {
        let first = graph.nodes().first().map_or("", |node| node.op.name());
        Box::new(Faulty { inner: inner(graph), fault, first })
    }
}

impl Executor for Faulty {
    fn write(&mut self, value: ValueId, data: &[f64]) -> Result<()> {
        self.inner.write(value, data)
    }
    fn set_mask(&mut self, parameter: ParameterId, mask: &Mask) -> Result<()> {
        if matches!(self.fault, Fault::NoMask) { Ok(()) } else { self.inner.set_mask(parameter, mask) }
    }
    fn set_missed_steps(&mut self, parameter: ParameterId, missed: &[u32]) -> Result<()> {
        if matches!(self.fault, Fault::NoMissedSteps) {
            Ok(())
        } else {
            self.inner.set_missed_steps(parameter, missed)
        }
    }
    fn run(&mut self, step: StepScalars) -> Result<()> {
        self.inner.run(step)
    }
    fn read(&mut self, value: ValueId) -> Vec<f64> {
        let mut data = self.inner.read(value);
        if let Fault::Scale { op, factor } = self.fault
            && op == self.first
            && let Some(largest) = data.iter_mut().max_by(|a, b| a.abs().total_cmp(&b.abs()))
        {
            *largest *= factor;
        }
        data
    }
    fn state(&mut self, parameter: ParameterId, slot: usize) -> Vec<f64> {
        self.inner.state(parameter, slot)
    }
    fn write_state(&mut self, parameter: ParameterId, slot: usize, data: &[f64]) -> Result<()> {
        if matches!(self.fault, Fault::NoState) {
            Ok(())
        } else {
            self.inner.write_state(parameter, slot, data)
        }
    }
}

/// An operand of a single operation.
#[derive(Clone)]
pub struct Operand {
    pub shape: Vec<usize>,
    pub dtype: DType,
    pub batched: bool,
    pub data: Vec<f64>,
}

impl Operand {
    /// A float tensor whose first axis is the batch.
    pub fn batch(shape: &[usize], data: Vec<f64>) -> Self {
        Operand { shape: shape.to_vec(), dtype: DType::F32, batched: true, data }
    }

    /// A float tensor without a batch axis, such as a kernel or a bias.
    pub fn fixed(shape: &[usize], data: Vec<f64>) -> Self {
        Operand { shape: shape.to_vec(), dtype: DType::F32, batched: false, data }
    }

    /// An integer tensor whose first axis is the batch, such as labels or positions of maxima.
    pub fn integers(shape: &[usize], data: Vec<f64>) -> Self {
        Operand { shape: shape.to_vec(), dtype: DType::U32, batched: true, data }
    }
}

/// A graph of one operation.
pub struct Single {
    pub graph: Graph,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
    /// Examples in the batch; 1 if no operand is batched.
    pub rows: usize,
}

impl Single {
    /// Builds the graph, with every result marked as an output.
    pub fn new(op: Op, operands: &[Operand]) -> Self {
        let rows = operands.iter().find(|o| o.batched).map_or(1, |o| o.shape[0]);
        let mut graph = Graph::new(rows).unwrap();
        let inputs: Vec<_> = operands
            .iter()
            .enumerate()
            .map(|(number, o)| {
                let name = format!("operand {number}");
                if o.batched {
                    graph.batch_input(&name, &o.shape[1..], o.dtype).unwrap()
                } else {
                    graph.input(&name, Shape::new(o.shape.as_slice()).unwrap(), o.dtype)
                }
            })
            .collect();
        let label = op.name();
        let outputs = graph.push(op, &inputs, label).unwrap();
        outputs.iter().for_each(|&output| graph.mark_output(output).unwrap());
        Single { graph, inputs, outputs, rows }
    }
}

/// Runs one operation on a full batch and returns all its results.
pub fn evaluate(make: Make, op: Op, operands: &[Operand]) -> Vec<Vec<f64>> {
    let single = Single::new(op, operands);
    let mut executor = make(&single.graph);
    for (&input, operand) in single.inputs.iter().zip(operands) {
        executor.write(input, &operand.data).unwrap();
    }
    executor.run(StepScalars::forward(single.rows)).unwrap();
    single.outputs.iter().map(|&output| executor.read(output)).collect()
}

/// Runs one operation on a full batch and returns its first result.
pub fn evaluate_one(make: Make, op: Op, operands: &[Operand]) -> Vec<f64> {
    evaluate(make, op, operands).swap_remove(0)
}
