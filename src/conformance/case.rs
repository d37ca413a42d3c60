//! Cases of the op table: operations with operands, or a masked update, and their data.

use super::network::Training;
use crate::compiler::{GradientStrategy, PlanOptions, Winograd};
use crate::digest::Fnv1a;
use crate::error::Result;
use crate::graph::{Clip, DType, Graph, Op, ParameterId, StepScalars, Target, UpdateRule, ValueId};
use crate::mask::Mask;
use crate::reference::Reference;
use crate::rng::{Purpose, Stream};
use crate::shape::{Shape, elements_of};
use std::fmt;

/// The kind of numbers in float operands, which determines how results are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataKind {
    /// Integers from -4 to 4: every partial sum is exact in f32, so results must equal the reference.
    Integers,
    /// Samples of the standard normal distribution: every result must be within its own error bound.
    Reals,
}

impl fmt::Display for DataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DataKind::Integers => "integers",
            DataKind::Reals => "reals",
        })
    }
}

/// How the elements of an operand are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fill {
    /// Floats of the case's [`DataKind`].
    Data,
    /// Samples of the standard normal distribution times this factor.
    Scaled(f32),
    /// Absolute values of samples of the standard normal distribution, plus 0.5: for scales and variances.
    Positive,
    /// Samples of a normal distribution with mean 100.
    Shifted,
    /// -1, 0 or 1, so that equal elements are common.
    Ties,
    /// Integers from -6 to 6; one element in 16 each is NaN, infinity and -infinity.
    Specials,
    /// Multiples of 1/8 from 0 to 1.
    Probability,
    /// Unsigned integers below this bound: class labels, or positions in a pooling window.
    Below(usize),
    /// Integers from 1 to 9, except for one element with a special value. Where the reference result is -0.0,
    /// the result must be -0.0 too.
    Planted {
        /// The index of that element.
        index: usize,
        /// Its value: NaN, an infinity or -0.0.
        value: f32,
    },
}

/// One operand of a case.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Operand {
    /// The extents, without the batch axis.
    pub extents: Vec<usize>,
    /// Whether a batch axis precedes the extents.
    pub batched: bool,
    /// How its elements are drawn.
    pub fill: Fill,
}

impl Operand {
    /// An operand of shape `[batch, extents...]`.
    pub fn batched(extents: &[usize], fill: Fill) -> Self {
        Operand { extents: extents.to_vec(), batched: true, fill }
    }

    /// An operand of shape `extents`, without a batch axis.
    pub fn fixed(extents: &[usize], fill: Fill) -> Self {
        Operand { extents: extents.to_vec(), batched: false, fill }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        if matches!(self.fill, Fill::Below(_)) { DType::U32 } else { DType::F32 }
    }

    /// The number of elements of one example, or of the whole operand if it has no batch axis; `usize::MAX` if
    /// it is larger than that.
    pub fn elements_per_row(&self) -> usize {
        elements_of(&self.extents)
    }
}

/// The source of an operation's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The operand with this index.
    Operand(usize),
    /// A result of an earlier operation: the index of the operation, and of the result.
    Result(usize, usize),
}

/// A chain of operations on operands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ops {
    /// Rows of a full batch.
    pub batch: usize,
    /// Smaller batch sizes with which the same plan is run as well.
    pub short_batches: Vec<usize>,
    /// The operands.
    pub operands: Vec<Operand>,
    /// The operations in order, each with its inputs.
    pub nodes: Vec<(Op, Vec<Wire>)>,
    /// The kind of numbers in float operands.
    pub data: DataKind,
    /// Whether intermediate results are outputs too, which prevents fusion; otherwise only the last results
    /// are.
    pub keep_all: bool,
    /// Maximum size of a workspace in bytes ([`PlanOptions::workspace_bytes`]). A convolution whose workspace
    /// would be larger is computed in several parts of the batch.
    pub workspace_bytes: Option<u64>,
    /// Maximum number of loop iterations of one invocation ([`PlanOptions::max_iterations`]). Longer sums are
    /// computed in several parts.
    pub max_iterations: Option<usize>,
    /// If set, the last result is the weight gradient of a partly frozen kernel.
    pub partial: Option<Partial>,
    /// When convolutions use Winograd's transforms ([`PlanOptions::winograd`]), whose error bounds are larger.
    pub winograd: Winograd,
}

/// A partly frozen kernel: gradients of trainable elements must be correct, those of frozen ones not written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Partial {
    /// The frozen elements.
    pub mask: Mask,
    /// How the gradient of the trainable elements is computed.
    pub strategy: GradientStrategy,
}

/// One masked update of several parameters. The masks of consecutive parameters are: random, none frozen, all
/// frozen, every third element frozen; then the same again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Update {
    /// The update rule.
    pub rule: UpdateRule,
    /// The number of elements of each parameter.
    pub sizes: Vec<usize>,
    /// The indices of parameters that the update does not list.
    pub excluded: Vec<usize>,
    /// How gradients are clipped.
    pub clip: Option<Clip>,
    /// Whether the gradient is accumulated over two batches, with shares of a quarter and three quarters.
    pub accumulate: bool,
    /// Whether parameters have individual factors of learning rate and weight decay.
    pub per_tensor_factors: bool,
    /// Whether elements have missed steps, which the bias correction of Adam does not count.
    pub missed_steps: bool,
    /// Injects a special value into one trainable element of each parameter, which must not spread to any
    /// other element. Frozen elements then have ordinary values instead of special bits.
    pub planted: Option<Planted>,
}

/// A special value in one element of each parameter of an [`Update`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Planted {
    /// The index of the element.
    pub index: usize,
    /// Its value: NaN, an infinity or -0.0.
    pub value: f32,
}

/// What a case computes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Work {
    /// Operations whose results are compared.
    Ops(Ops),
    /// A masked update whose weights and optimizer state are compared.
    Update(Update),
    /// Training steps with frozen elements, whose bits are compared.
    Training(Training),
}

/// One row of the op table.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Case {
    /// A unique name: operation, geometry and data. It seeds the case's random numbers.
    pub name: String,
    /// What it computes.
    pub work: Work,
}

impl Case {
    /// Returns the case with its [`Ops`] modified by `change`; another one is unchanged. The data are the same.
    #[must_use]
    pub fn with_ops(mut self, change: impl FnOnce(&mut Ops)) -> Self {
        if let Work::Ops(ops) = &mut self.work {
            change(ops);
        }
        self
    }

    /// Whether the case has a GEMM or a convolution, so that the GEMM family matters.
    pub fn has_gemm(&self) -> bool {
        let is_gemm = |(op, _): &(Op, Vec<Wire>)| {
            matches!(op, Op::Conv2d(_) | Op::Conv2dGradInput(_) | Op::Conv2dGradKernel(_) | Op::MatMul { .. })
        };
        match &self.work {
            Work::Ops(ops) => ops.nodes.iter().any(is_gemm),
            Work::Update(_) => false,
            Work::Training(_) => true,
        }
    }

    /// Returns `options` with the case's own workspace, limit of iterations, masks, gradient strategy, Winograd
    /// setting and missed steps.
    pub fn options(&self, options: PlanOptions) -> PlanOptions {
        let ops = match &self.work {
            Work::Ops(ops) => ops,
            Work::Update(update) => return options.missed_steps(update.missed_steps),
            Work::Training(_) => return options,
        };
        let options = match ops.workspace_bytes {
            Some(bytes) => {
                let columns = ops.partial.is_none() && ops.winograd == Winograd::Auto;
                options.workspace_bytes(bytes).explicit_columns(columns)
            }
            None => options,
        };
        let options = match ops.max_iterations {
            Some(iterations) => options.max_iterations(iterations),
            None => options,
        };
        let options = if ops.winograd == Winograd::Auto { options } else { options.winograd(ops.winograd) };
        match &ops.partial {
            Some(partial) => {
                options.masks(std::slice::from_ref(&partial.mask)).gradient_strategy(partial.strategy)
            }
            None => options,
        }
    }

    /// Builds the graph of the case.
    ///
    /// # Errors
    /// Those of [`Graph::push`]; none for a case of [`cases`](super::cases).
    pub fn graph(&self) -> Result<Graph> {
        match &self.work {
            Work::Ops(ops) => Ok(ops.build()?.graph),
            Work::Update(update) => Ok(update.build()?.graph),
            Work::Training(training) => training.graph(),
        }
    }

    /// The names of the operations, joined by `+`.
    pub fn op(&self) -> String {
        match &self.work {
            Work::Ops(ops) => ops.nodes.iter().map(|(op, _)| op.name()).collect::<Vec<_>>().join("+"),
            Work::Update(update) => update.op(),
            Work::Training(_) => "training".to_owned(),
        }
    }

    /// The operands' elements for a full batch, equal on every machine; empty for an update.
    pub fn data(&self) -> Vec<Vec<f64>> {
        let Work::Ops(ops) = &self.work else { return Vec::new() };
        let fill = |(number, operand): (usize, &Operand)| {
            let rows = if operand.batched { ops.batch } else { 1 };
            let mut stream = self.stream(number);
            let elements = 0..rows * operand.elements_per_row();
            elements.map(|index| draw(operand.fill, ops.data, index, &mut stream)).collect()
        };
        ops.operands.iter().enumerate().map(fill).collect()
    }

    /// The seed of the case's random numbers: the FNV-1a hash of its name.
    pub fn seed(&self) -> u64 {
        let mut hash = Fnv1a::default();
        hash.bytes(self.name.as_bytes());
        hash.value()
    }

    /// The shapes of the operands of a full batch, or of the parameters of an update.
    pub fn shapes(&self) -> Vec<Vec<usize>> {
        match &self.work {
            Work::Ops(ops) => {
                let shape = |operand: &Operand| {
                    let batch = operand.batched.then_some(ops.batch);
                    batch.into_iter().chain(operand.extents.iter().copied()).collect()
                };
                ops.operands.iter().map(shape).collect()
            }
            Work::Update(update) => update.sizes.iter().map(|&size| vec![size]).collect(),
            Work::Training(_) => Training::shapes(),
        }
    }

    /// Random stream number `part` of the case.
    pub(super) fn stream(&self, part: usize) -> Stream {
        Stream::new(self.seed(), Purpose::Data, part as u64)
    }
}

/// Draws element `index` of an operand.
fn draw(fill: Fill, kind: DataKind, index: usize, stream: &mut Stream) -> f64 {
    match (fill, kind) {
        (Fill::Data, DataKind::Integers) => stream.below(9) as f64 - 4.0,
        (Fill::Data, DataKind::Reals) => f64::from(stream.normal()),
        (Fill::Scaled(by), _) => f64::from(stream.normal() * by),
        (Fill::Positive, _) => f64::from(stream.normal().abs() + 0.5),
        (Fill::Shifted, _) => f64::from(stream.normal() + 100.0),
        (Fill::Ties, _) => stream.below(3) as f64 - 1.0,
        (Fill::Specials, _) => match stream.below(16) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            other => other as f64 - 9.0,
        },
        (Fill::Probability, _) => stream.below(9) as f64 / 8.0,
        (Fill::Below(bound), _) => stream.below(bound) as f64,
        (Fill::Planted { index: planted, value }, _) if index == planted => value.into(),
        (Fill::Planted { .. }, _) => stream.below(9) as f64 + 1.0,
    }
}

const SGD: UpdateRule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

/// The graph of an [`Ops`] case, with the ids of its inputs and results.
pub(super) struct OpsGraph {
    pub graph: Graph,
    pub inputs: Vec<ValueId>,
    /// The results of each operation.
    pub results: Vec<Vec<ValueId>>,
    partial: bool,
}

/// A result that is compared with the reference.
pub(super) struct Output {
    /// The index of its operation.
    pub node: usize,
    /// Its index among the operation's results.
    pub index: usize,
    pub id: ValueId,
}

impl Ops {
    pub(super) fn build(&self) -> Result<OpsGraph> {
        let mut graph = Graph::new(self.batch)?;
        let mut inputs = Vec::new();
        for (number, operand) in self.operands.iter().enumerate() {
            let name = format!("operand {number}");
            inputs.push(if operand.batched {
                graph.batch_input(&name, &operand.extents, operand.dtype())?
            } else {
                graph.input(&name, Shape::new(operand.extents.as_slice())?, operand.dtype())
            });
        }
        let mut results: Vec<Vec<ValueId>> = Vec::new();
        for (number, (op, wires)) in self.nodes.iter().enumerate() {
            let ids: Vec<_> = wires
                .iter()
                .map(|wire| match *wire {
                    Wire::Operand(operand) => inputs[operand],
                    Wire::Result(node, result) => results[node][result],
                })
                .collect();
            let outputs = graph.push(op.clone(), &ids, op.name())?;
            let last = number + 1 == self.nodes.len();
            if last && self.partial.is_some() {
                // The gradient is not marked as an output, because a gradient that the caller may read is
                // always computed densely.
                let shape = graph.at(outputs[0]).shape.clone();
                graph.parameter("partly frozen", shape)?;
                graph.push(Op::Update(SGD, vec![ParameterId::of(0).into()]), &outputs, "update")?;
            } else if self.keep_all || last {
                for &value in &outputs {
                    graph.mark_output(value)?;
                }
            }
            results.push(outputs);
        }
        Ok(OpsGraph { graph, inputs, results, partial: self.partial.is_some() })
    }
}

impl OpsGraph {
    /// The results that are compared, in the order of the operations.
    pub fn outputs(&self) -> Vec<Output> {
        let mut all = Vec::new();
        for (node, results) in self.results.iter().enumerate() {
            for (index, &id) in results.iter().enumerate() {
                if self.graph.at(id).output || (self.partial && node + 1 == self.results.len()) {
                    all.push(Output { node, index, id });
                }
            }
        }
        all
    }

    /// The reference after a run on the first `rows` rows of `data`.
    pub fn evaluate(&self, data: &[Vec<f64>], rows: usize) -> Result<Reference> {
        let mut reference = Reference::new(&self.graph)?;
        for (&input, data) in self.inputs.iter().zip(data) {
            reference.write(input, data)?;
        }
        reference.run(StepScalars::forward(rows))?;
        Ok(reference)
    }
}

/// The graph of an [`Update`] case.
pub(super) struct UpdateGraph {
    pub graph: Graph,
    pub parameters: Vec<ParameterId>,
    /// The parameters that are updated.
    pub targets: Vec<ParameterId>,
    /// The gradient of each target.
    pub gradients: Vec<ValueId>,
}

impl Update {
    pub(super) fn build(&self) -> Result<UpdateGraph> {
        let mut graph = Graph::new(1)?;
        let (mut parameters, mut targets) = (Vec::new(), Vec::new());
        let mut gradients = Vec::new();
        for (number, &size) in self.sizes.iter().enumerate() {
            let shape = Shape::new([size])?;
            graph.parameter(&format!("tensor {number}"), shape.clone())?;
            let id = ParameterId(number);
            parameters.push(id);
            if self.is_excluded(id) {
                continue;
            }
            targets.push(id);
            gradients.push(graph.input(&format!("gradient {number}"), shape, DType::F32));
        }
        if self.accumulate {
            graph.push(Op::Accumulate(targets.clone()), &gradients, "accumulate")?;
        }
        if let Some(clip) = self.clip {
            graph.push(Op::Clip(clip, targets.clone()), &gradients, "clip")?;
        }
        let target = |&parameter: &ParameterId| {
            let [learning_rate, weight_decay] = self.factors(parameter.0);
            Target { parameter, learning_rate, weight_decay }
        };
        let with_factors = targets.iter().map(target).collect();
        graph.push(Op::Update(self.rule, with_factors), &gradients, "update")?;
        Ok(UpdateGraph { graph, parameters, targets, gradients })
    }

    /// The index of the step: the third, or with missed steps a later one.
    pub(super) fn step(&self) -> u32 {
        if self.missed_steps { 99_999 } else { 2 }
    }

    /// The factors of a parameter's learning rate and weight decay: 0 or powers of 2, which add no rounding
    /// error.
    pub(super) fn factors(&self, number: usize) -> [f64; 2] {
        let all = [[2.0, 1.0], [0.5, 0.0], [0.5, 0.0], [1.0, 2.0]];
        if self.per_tensor_factors { all[number % 4] } else { [1.0; 2] }
    }

    /// Whether the clipped norm includes the gradients of frozen elements.
    pub(super) fn clips_over_all(&self) -> bool {
        matches!(self.clip, Some(Clip::Norm { over_all: true, .. }))
    }

    /// Whether the update does not list this parameter.
    pub(super) fn is_excluded(&self, id: ParameterId) -> bool {
        self.excluded.contains(&id.0)
    }

    fn op(&self) -> String {
        let parts = [(self.accumulate, "accumulate"), (self.clip.is_some(), "clip"), (true, "update")];
        parts.iter().filter(|(used, _)| *used).map(|(_, name)| *name).collect::<Vec<_>>().join("+")
    }
}

/// Special bits that arithmetic would change: NaN with payloads, infinities, -0.0 and subnormals.
const SPECIAL_BITS: [u32; 9] = [
    0x7fc1_2345,
    0x7f81_2345,
    0xffa5_5a5a,
    0xffff_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x8000_0000,
    0x0000_0001,
    0x807f_ffff,
];

/// The mask and the bits of one parameter before an update.
pub(super) struct InitialTensors {
    pub mask: Mask,
    pub weights: Vec<u32>,
    /// One tensor per state slot of the rule.
    pub state: Vec<Vec<u32>>,
    pub gradient: Vec<u32>,
    /// The number of steps that each element missed.
    pub missed_steps: Vec<u32>,
}

impl InitialTensors {
    /// Draws the tensors of parameter `id` of an update case.
    pub fn new(case: &Case, update: &Update, id: ParameterId) -> Self {
        let (len, mask) = (update.sizes[id.0], mask(case, update, id.0));
        let unchanged = |i: usize| mask.is_frozen(i) || update.is_excluded(id);
        let slots = update.rule.slots();
        // Draws tensor number `part`: 0 is the weights, 1 the gradient, and 2 and later the optimizer state.
        let tensor = |part: usize, shape: fn(f32) -> f32| -> Vec<u32> {
            let mut stream = case.stream(10 * id.0 + part);
            // A clipped norm over all elements includes frozen gradients, so these are ordinary numbers.
            let special = |i: usize| unchanged(i) && !(part == 1 && update.clips_over_all());
            let draw = |i: usize| {
                let x = stream.normal();
                if let Some(planted) = update.planted {
                    // The injected value is in another tensor of each consecutive parameter: the weights, the
                    // gradient, then each state tensor.
                    let here = i == planted.index && id.0 % (2 + slots.len()) == part;
                    return if here { planted.value.to_bits() } else { shape(x).to_bits() };
                }
                // Of the elements that must not change, those with an even index have special bits; all
                // others are ordinary numbers.
                if special(i) && i.is_multiple_of(2) {
                    SPECIAL_BITS[(i / 2 + part) % SPECIAL_BITS.len()]
                } else {
                    shape(x).to_bits()
                }
            };
            (0..len).map(draw).collect()
        };
        let shape = |slot: usize| -> fn(f32) -> f32 {
            match slots[slot] {
                "v" | "v_max" | "sum" => f32::abs,
                // The mean square is larger than the square of any mean gradient (`grad_avg`), so that the
                // variance, their difference, does not cancel.
                "square_avg" => |x| 1.0 + x.abs(),
                "grad_avg" => |x| 0.1 * x,
                _ => |x| x,
            }
        };
        let state = (0..slots.len()).map(|slot| tensor(2 + slot, shape(slot))).collect();
        let missed_steps = missed_steps(case, update, id.0);
        InitialTensors { weights: tensor(0, |x| x), gradient: tensor(1, |x| x), state, missed_steps, mask }
    }
}

/// The number of steps that each element of parameter `number` missed before the step with index
/// [`Update::step`]: none, all, or a random number of them. Some values are negative modulo 2^32: the
/// element was trained in more steps than the index of the step.
fn missed_steps(case: &Case, update: &Update, number: usize) -> Vec<u32> {
    let mut stream = case.stream(2000 + number);
    let missed = |i: usize| match i % 8 {
        _ if !update.missed_steps => 0,
        0 => 0,
        1 => update.step(),
        2 => 1000u32.wrapping_neg(),
        _ => stream.below(update.step() as usize + 1) as u32,
    };
    (0..update.sizes[number]).map(missed).collect()
}

/// The mask of parameter `number` of an update case.
fn mask(case: &Case, update: &Update, number: usize) -> Mask {
    let mut stream = case.stream(1000 + number);
    let len = update.sizes[number];
    if let Some(planted) = update.planted {
        // The element with the injected value is trainable. Of the others, alternately the even and the odd
        // indices are frozen in consecutive parameters.
        return Mask::from_frozen((0..len).map(|i| i != planted.index && (i + number).is_multiple_of(2)));
    }
    match number % 4 {
        0 => Mask::from_frozen((0..len).map(|_| stream.below(2) == 0)),
        1 => Mask::none_of(len),
        2 => Mask::none_of(len).complement(),
        _ => Mask::from_frozen((0..len).map(|i| i % 3 == 0)),
    }
}
