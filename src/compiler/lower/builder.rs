//! Builds the list of dispatches.

use crate::compiler::conv::Algorithm;
use crate::compiler::ir::Operation;
use crate::compiler::memory::Layout;
use crate::compiler::options::Settings;
use crate::graph::{Graph, Node, ValueId};
use crate::kernels::{Epilogue, Gemm, Images, Launch, MAX_TERMS, Operand, gemm_launch, split_k_sum, splits};
use crate::shape::WindowGeometry;
use std::ops::Range;

/// Memory that a dispatch binds, before it has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// A value, wherever it is stored.
    Value(ValueId),
    /// Memory that only a few dispatches use, by number.
    Workspace(usize),
    /// Constant numbers written when the plan is made, by number.
    List(usize),
    /// A chunk of the weights.
    Weights(usize),
    /// A chunk of the gradients.
    Gradients(usize),
    /// A chunk of the accumulated gradients.
    Accumulated(usize),
    /// A chunk of the mask bits.
    Masks(usize),
    /// A state slot and a chunk of it.
    State(usize, usize),
    /// The running sums of the metrics.
    RunningSums,
}

/// A kernel's launch with what it binds.
#[derive(Clone, Debug)]
pub(crate) struct LoweredDispatch {
    pub label: String,
    pub algorithm: Option<Algorithm>,
    pub launch: Launch,
    pub resources: Vec<Resource>,
}

/// All dispatches of a run, before memory is assigned.
#[derive(Debug, Default)]
pub(crate) struct Lowered {
    pub dispatches: Vec<LoweredDispatch>,
    /// Bytes of each workspace.
    pub workspaces: Vec<u64>,
    /// The contents of each list.
    pub lists: Vec<Vec<u32>>,
}

/// What a GEMM reads and writes.
pub(crate) struct GemmBuffers {
    pub a: Resource,
    pub b: Resource,
    pub c: Resource,
    /// What the epilogue reads, if anything.
    pub epilogue: Option<Resource>,
    /// Where the positions of pooled maxima are written.
    pub positions: Option<Resource>,
}

impl GemmBuffers {
    /// Without an epilogue.
    pub fn plain(a: Resource, b: Resource, c: Resource) -> Self {
        GemmBuffers { a, b, c, epilogue: None, positions: None }
    }
}

/// What lowering reads, and the dispatches so far.
pub(crate) struct Builder<'a> {
    pub graph: &'a Graph,
    pub layout: &'a Layout,
    pub settings: Settings,
    /// By parameter, whether every element is frozen.
    pub fully_frozen: &'a [bool],
    pub lowered: Lowered,
}

impl<'a> Builder<'a> {
    pub fn new(graph: &'a Graph, layout: &'a Layout, settings: Settings, fully_frozen: &'a [bool]) -> Self {
        Builder { graph, layout, settings, fully_frozen, lowered: Lowered::default() }
    }

    /// Adds a dispatch of an operation.
    pub fn push(&mut self, op: &Operation, launch: Launch, resources: Vec<Resource>) {
        let algorithm = op.choice.as_ref().map(|choice| choice.algorithm);
        self.push_of(&op.node, algorithm, launch, resources);
    }

    /// Adds a dispatch of a node.
    pub fn push_of(
        &mut self,
        node: &Node,
        algorithm: Option<Algorithm>,
        launch: Launch,
        resources: Vec<Resource>,
    ) {
        let label = node.label.clone();
        self.lowered.dispatches.push(LoweredDispatch { label, algorithm, launch, resources });
    }

    /// A workspace of this many elements.
    pub fn workspace(&mut self, elements: usize) -> Resource {
        self.lowered.workspaces.push(4 * elements as u64);
        Resource::Workspace(self.lowered.workspaces.len() - 1)
    }

    /// A list of constants.
    pub fn list(&mut self, words: Vec<u32>) -> Resource {
        self.lowered.lists.push(words);
        Resource::List(self.lowered.lists.len() - 1)
    }

    /// The windows over all images of the batch.
    pub fn images(&self, window: WindowGeometry, channels: usize) -> Images {
        Images { window, channels, groups: 1, first: 0, count: self.settings.batch }
    }

    /// Adds a GEMM into the operation's result, with the operation's epilogue.
    pub fn gemm_with_epilogue(&mut self, op: &Operation, gemm: &Gemm, a: Resource, b: Resource) {
        let epilogue = op.epilogue();
        let gemm = Gemm { epilogue: epilogue.kind, pooled: epilogue.positions.is_some(), ..*gemm };
        let buffers = GemmBuffers {
            a,
            b,
            c: Resource::Value(epilogue.output),
            epilogue: epilogue.operand.map(Resource::Value),
            positions: epilogue.positions.map(Resource::Value),
        };
        self.gemm(op, &gemm, &buffers);
    }

    /// Adds a GEMM: as one dispatch, as split-K with a reduction, or as several parts of a sum too long for one loop.
    pub fn gemm(&mut self, op: &Operation, gemm_of: &Gemm, buffers: &GemmBuffers) {
        let GemmBuffers { a, b, c, epilogue, positions } = *buffers;
        let family = self.settings.family;
        let bias_grad = op.bias_grad.as_ref().filter(|bias_grad| self.computes(gemm_of, b, bias_grad));
        let bias_grad = bias_grad.map(|bias_grad| Resource::Value(bias_grad.outputs[0]));
        let gradient = gradient_operand(op, b);
        let whole = Gemm { bias_grad: bias_grad.is_some(), gradient, ..*gemm_of };
        let split = Gemm { splits: splits(&whole, family), ..whole };
        let elements = split.splits * split.m * split.n * split.groups;
        if split.splits > 1 && 4 * elements as u64 <= self.settings.max_binding {
            let partial_sums = self.workspace(elements);
            // Without an epilogue its binding is not read.
            let mut partial = vec![a, b, partial_sums, b];
            let mut reduced = vec![partial_sums, c];
            if let Some(bias_grad) = bias_grad {
                let column_sums = self.workspace(split.splits * split.n * split.groups);
                partial.push(column_sums);
                reduced.extend([column_sums, bias_grad]);
            }
            self.push(op, gemm_launch(&split, family), partial);
            self.push(op, split_k_sum(&split), reduced);
            return;
        }
        for part in whole.parts() {
            // Only the last part has the epilogue; without one its binding is not read.
            let operand = epilogue.filter(|_| part.epilogue != Epilogue::None).unwrap_or(b);
            let mut resources = vec![a, b, c, operand];
            resources.extend(positions);
            resources.extend(bias_grad);
            self.push(op, gemm_launch(&part, family), resources);
        }
    }

    /// Whether a GEMM reads every element that a bias gradient sums, so that it can compute it.
    fn computes(&self, gemm: &Gemm, b: Resource, bias_grad: &Node) -> bool {
        let dy = bias_grad.inputs[0];
        b == Resource::Value(dy)
            && gemm.transpose_a
            && !gemm.transpose_b
            && gemm.k <= MAX_TERMS
            && gemm.k * gemm.n * gemm.groups == self.graph.at(dy).shape.elements()
    }

    /// Splits the batch so that `elements` of each example, of four bytes, fit `bytes` and a workspace. Parts are of equal size,
    /// but for the last.
    pub fn parts_of_batch(&self, elements: usize, bytes: u64) -> Vec<Range<usize>> {
        let batch = self.settings.batch;
        let bytes = bytes.min(self.settings.workspace_bytes).min(self.settings.max_binding);
        let most = bytes / (4 * elements as u64).max(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX).clamp(1, batch);
        let each = batch.div_ceil(batch.div_ceil(most));
        (0..batch).step_by(each).map(|start| start..(start + each).min(batch)).collect()
    }
}

/// Which operand of an operation's GEMM holds gradients; `b` is the right one.
fn gradient_operand(op: &Operation, b: Resource) -> Option<Operand> {
    let input = op.gradient_input?;
    // A partial weight gradient may exchange the images and their gradients.
    let exchanged = b == Resource::Value(op.node.inputs[0]);
    Some(if (input == 1) != exchanged { Operand::B } else { Operand::A })
}
