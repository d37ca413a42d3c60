//! A case: operations with their operands, and the data that they get.

use super::update::Update;
use crate::compiler::{GradientStrategy, PlanOptions, Winograd};
use crate::error::Result;
use crate::graph::{DType, Graph, Op, ParameterId, UpdateRule, ValueId};
use crate::mask::Mask;
use crate::rng::{Purpose, Stream};
use crate::shape::Shape;

/// What floats are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// Small integers: every product and every sum is exact in f32, so results must be equal.
    Integers,
    /// Normal draws: results must be within the bound of each element.
    Reals,
}

/// What one operand holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// Floats of the case's [`DataKind`].
    Data,
    /// Normal draws times this.
    Scaled(f32),
    /// Sizes of normal draws, and a half: scales and variances.
    Positive,
    /// A hundred and a normal draw.
    Far,
    /// -1, 0 and 1, so that equals are common.
    Ties,
    /// Integers, with NaN and infinities among them.
    Specials,
    /// Unsigned integers below this (classes, taps).
    Below(usize),
    /// Integers above 0, and this value in one place. Where -0.0 is wanted, +0.0 is wrong.
    Planted {
        /// Where.
        at: usize,
        /// NaN, an infinity or -0.0.
        value: f32,
    },
}

/// One operand of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// Its extents, for a batched one without the batch.
    pub extents: Vec<usize>,
    /// Whether the batch is its first axis.
    pub batched: bool,
    /// Its data.
    pub fill: Fill,
}

impl Operand {
    /// Has the batch before these extents.
    pub fn batched(extents: &[usize], fill: Fill) -> Self {
        Operand { extents: extents.to_vec(), batched: true, fill }
    }

    /// Has these extents alone.
    pub fn fixed(extents: &[usize], fill: Fill) -> Self {
        Operand { extents: extents.to_vec(), batched: false, fill }
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        if matches!(self.fill, Fill::Below(_)) { DType::U32 } else { DType::F32 }
    }

    /// Elements of one example, or of all where it has no batch.
    pub fn per_row(&self) -> usize {
        self.extents.iter().product()
    }
}

/// Where an operation's input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// An operand, by number.
    Operand(usize),
    /// A result of an earlier operation: its number, and which result.
    Result(usize, usize),
}

/// Operations on operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Ops {
    /// Rows of a full batch.
    pub batch: usize,
    /// Fewer rows with which it runs, too.
    pub short: Vec<usize>,
    /// Operands.
    pub operands: Vec<Operand>,
    /// Operations in order with their inputs.
    pub nodes: Vec<(Op, Vec<Wire>)>,
    /// What floats are made of.
    pub data: DataKind,
    /// Whether results in between can be read as well; that forbids fusing them.
    pub keep_all: bool,
    /// Bytes of a part's columns, where a convolution is to be cut.
    pub workspace_bytes: Option<u64>,
    /// The last result is a weight gradient of which only a part is wanted.
    pub partial: Option<Partial>,
    /// Whether convolutions go by Winograd's transforms, whose bound is wider.
    pub winograd: bool,
}

/// A partly frozen kernel: its gradient must be right where it trains, and must not be written elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Partial {
    /// What is frozen.
    pub mask: Mask,
    /// How the rest is computed.
    pub how: GradientStrategy,
}

/// What a case does.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Operations whose results are compared.
    Ops(Ops),
    /// A masked update whose weights and state are compared.
    Update(Update),
}

/// One row of the op table.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Names it: the operation, the geometry, the data. No two cases have the same.
    pub name: String,
    /// What it does.
    pub work: Work,
}

/// The graph of a case, with the ids of what it reads and of all that it compares.
pub(super) struct Built {
    pub graph: Graph,
    pub inputs: Vec<ValueId>,
    /// Results of each operation.
    pub results: Vec<Vec<ValueId>>,
    partial: bool,
}

const SGD: UpdateRule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

impl Case {
    /// Whether it multiplies matrices, so that the family matters.
    pub fn has_gemm(&self) -> bool {
        let product = |(op, _): &(Op, Vec<Wire>)| {
            matches!(op, Op::Conv2d(_) | Op::Conv2dGradInput(_) | Op::Conv2dGradKernel(_) | Op::MatMul { .. })
        };
        match &self.work {
            Work::Ops(ops) => ops.nodes.iter().any(product),
            Work::Update(_) => false,
        }
    }

    /// These options, with what the case asks for besides.
    pub fn options(&self, options: PlanOptions) -> PlanOptions {
        let ops = match &self.work {
            Work::Ops(ops) => ops,
            Work::Update(_) => return options,
        };
        let options = match ops.workspace_bytes {
            Some(bytes) => {
                options.workspace_bytes(bytes).explicit_columns(ops.partial.is_none() && !ops.winograd)
            }
            None => options,
        };
        let options = if ops.winograd { options.winograd(Winograd::Always) } else { options };
        match &ops.partial {
            Some(partial) => {
                options.masks(std::slice::from_ref(&partial.mask)).gradient_strategy(partial.how)
            }
            None => options,
        }
    }

    /// Its graph.
    ///
    /// # Errors
    /// Those of [`Graph::push`]; the table's own cases have none.
    pub fn graph(&self) -> Result<Graph> {
        match &self.work {
            Work::Ops(ops) => Ok(ops.build()?.graph),
            Work::Update(update) => Ok(update.build()?.graph),
        }
    }

    /// Its operations, `+` between them.
    pub fn op(&self) -> String {
        match &self.work {
            Work::Ops(ops) => ops.nodes.iter().map(|(op, _)| op.name()).collect::<Vec<_>>().join("+"),
            Work::Update(update) => update.op(),
        }
    }

    /// Its random numbers: the same on every machine, and other ones for every case.
    pub(super) fn stream(&self, part: usize) -> Stream {
        let seed = self
            .name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Stream::new(seed, Purpose::Data, part as u64)
    }

    /// The operands' data for a full batch; nothing for an update.
    pub fn data(&self) -> Vec<Vec<f64>> {
        let Work::Ops(ops) = &self.work else { return Vec::new() };
        let fill = |(number, operand): (usize, &Operand)| {
            let rows = if operand.batched { ops.batch } else { 1 };
            let mut stream = self.stream(number);
            (0..rows * operand.per_row()).map(|at| draw(operand.fill, ops.data, at, &mut stream)).collect()
        };
        ops.operands.iter().enumerate().map(fill).collect()
    }
}

/// Element `index` of an operand.
fn draw(fill: Fill, kind: DataKind, index: usize, stream: &mut Stream) -> f64 {
    match (fill, kind) {
        (Fill::Data, DataKind::Integers) => stream.below(9) as f64 - 4.0,
        (Fill::Data, DataKind::Reals) => f64::from(stream.normal()),
        (Fill::Scaled(by), _) => f64::from(stream.normal() * by),
        (Fill::Positive, _) => f64::from(stream.normal().abs() + 0.5),
        (Fill::Far, _) => f64::from(stream.normal() + 100.0),
        (Fill::Ties, _) => stream.below(3) as f64 - 1.0,
        (Fill::Specials, _) => match stream.below(16) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            other => other as f64 - 9.0,
        },
        (Fill::Below(bound), _) => stream.below(bound) as f64,
        (Fill::Planted { at, value }, _) if index == at => value.into(),
        (Fill::Planted { .. }, _) => stream.below(9) as f64 + 1.0,
    }
}

impl Ops {
    pub(super) fn build(&self) -> Result<Built> {
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
            let made = graph.push(op.clone(), &ids, op.name())?;
            let last = number + 1 == self.nodes.len();
            if last && self.partial.is_some() {
                // What the caller reads would be computed as a whole.
                let shape = graph.at(made[0]).shape.clone();
                graph.parameter("partly frozen", shape)?;
                graph.push(Op::Update(SGD, vec![ParameterId::of(0).into()]), &made, "update")?;
            } else if self.keep_all || last {
                for &value in &made {
                    graph.mark_output(value)?;
                }
            }
            results.push(made);
        }
        Ok(Built { graph, inputs, results, partial: self.partial.is_some() })
    }
}

impl Built {
    /// What is compared: the number of its operation, which result, and its id.
    pub fn outputs(&self) -> Vec<(usize, usize, ValueId)> {
        let mut all = Vec::new();
        for (node, results) in self.results.iter().enumerate() {
            for (index, &id) in results.iter().enumerate() {
                if self.graph.at(id).output || (self.partial && node + 1 == self.results.len()) {
                    all.push((node, index, id));
                }
            }
        }
        all
    }
}
