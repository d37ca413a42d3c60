//! Builds the list of dispatches.

use crate::compiler::conv::Algorithm;
use crate::compiler::ir::{Operation, roots};
use crate::compiler::memory::Layout;
use crate::compiler::options::Settings;
use crate::graph::{Graph, Node, Op, ParameterId, ValueId};
use crate::kernels::{
    Epilogue, Gemm, Images, Launch, MAX_TERMS, Operand, RowTiles, bias_grad, bias_grad_parallel, gemm_launch,
    round_to_f16, split_k_sum, split_k_sum_parallel, splits, stored_f16_scales,
};
use crate::shape::WindowGeometry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Memory that a dispatch binds, before memory assignment maps it to a buffer. An arena (the storage of one
/// tensor per parameter) is divided into chunks, each of which is one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// A value of the graph.
    Value(ValueId),
    /// A temporary buffer of one operation, by number.
    Workspace(usize),
    /// The buffer of the packed values.
    Packed,
    /// A list of constants that is written when the plan is created, by number.
    List(usize),
    /// A chunk of the arena of weights.
    Weights(usize),
    /// A chunk of the arena of gradients.
    Gradients(usize),
    /// A chunk of the arena of accumulated gradients.
    Accumulated(usize),
    /// A chunk of the arena of mask bits.
    Masks(usize),
    /// A chunk of an arena of optimizer state: the index of the state tensor (such as Adam's `m`), then the
    /// chunk.
    State(usize, usize),
    /// A chunk of the arena of missed steps.
    MissedSteps(usize),
    /// The running sums of the metrics.
    RunningSums,
}

/// A kernel launch with the resources that it binds.
#[derive(Clone, Debug)]
pub(crate) struct LoweredDispatch {
    pub label: String,
    pub algorithm: Option<Algorithm>,
    pub launch: Launch,
    pub resources: Vec<Resource>,
}

/// All dispatches of one run of the graph, before memory is assigned.
#[derive(Debug, Default)]
pub(crate) struct Lowered {
    pub dispatches: Vec<LoweredDispatch>,
    /// Size of each workspace in bytes.
    pub workspaces: Vec<u64>,
    /// Values that are stored in one buffer, so that one dispatch can read all of them, each with the index of
    /// its first element there.
    pub packed: Vec<(ValueId, usize)>,
    /// The contents of each list.
    pub lists: Vec<Vec<u32>>,
    /// The parameters whose gradients are accumulated, each with the number of dispatches until then, in their order.
    pub accumulated: Vec<(ParameterId, usize)>,
    /// The least bytes that the operations read and write.
    pub minimum_bytes: u64,
}

/// Partial sums of a batch normalization that a later operation merges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partial {
    pub workspace: Resource,
    pub tiles: RowTiles,
    /// Of batch statistics: what is added to the variance.
    pub epsilon: f64,
    /// Of batch statistics: the index of the first element of mean, inv_std and variance in the packed buffer.
    pub first: [usize; 3],
    /// Of a scale gradient whose kernel computes the sign of the ReLU after the normalization: the gradient of the
    /// ReLU's output.
    pub gradient: Option<ValueId>,
}

/// Memory that a GEMM reads and writes: operands `a` and `b`, result `c`.
pub(crate) struct GemmBuffers {
    pub a: Resource,
    pub b: Resource,
    pub c: Resource,
    /// Bias or ReLU output that the epilogue reads, if it needs one.
    pub epilogue: Option<Resource>,
    /// Destination of the positions of the maxima, if a max-pool is fused.
    pub positions: Option<Resource>,
}

impl GemmBuffers {
    /// Returns the resources of a GEMM without an epilogue.
    pub fn plain(a: Resource, b: Resource, c: Resource) -> Self {
        GemmBuffers { a, b, c, epilogue: None, positions: None }
    }
}

/// Inputs of lowering, and the dispatches generated so far.
pub(crate) struct Builder<'a> {
    pub graph: &'a Graph,
    pub layout: &'a Layout,
    pub settings: Settings,
    /// For each parameter, whether every element is frozen.
    pub fully_frozen: &'a [bool],
    pub lowered: Lowered,
    /// Partial results that a later operation merges, by the index of the node that computes them.
    pub partial: BTreeMap<usize, Partial>,
    roots: Vec<ValueId>,
    /// Values that are stored in f16 for GEMMs, by root and scale.
    stored_f16: BTreeMap<(usize, u32), Resource>,
    /// The results of the batch statistics of batched values.
    batch_statistics: BTreeSet<usize>,
    /// The index of the first element of each packed value, by value, and the end of the last one.
    packed: BTreeMap<usize, usize>,
    packed_end: usize,
}

impl<'a> Builder<'a> {
    pub fn new(graph: &'a Graph, layout: &'a Layout, settings: Settings, fully_frozen: &'a [bool]) -> Self {
        Builder {
            graph,
            layout,
            settings,
            fully_frozen,
            lowered: Lowered::default(),
            partial: BTreeMap::new(),
            roots: roots(graph),
            stored_f16: BTreeMap::new(),
            batch_statistics: batch_statistics(graph),
            packed: BTreeMap::new(),
            packed_end: 0,
        }
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

    /// Whether a dispatch reads or writes a value.
    pub fn uses(&self, dispatch: &LoweredDispatch, value: ValueId) -> bool {
        let root = |id: ValueId| self.roots[id.0];
        let is_root = |used: &Resource| matches!(used, Resource::Value(id) if root(*id) == root(value));
        dispatch.resources.iter().any(is_root)
    }

    /// Allocates a workspace of this many elements.
    pub fn workspace(&mut self, elements: usize) -> Resource {
        self.lowered.workspaces.push(4 * elements as u64);
        Resource::Workspace(self.lowered.workspaces.len() - 1)
    }

    /// Returns the buffer of batch statistics for a dispatch that reads many of them, and the index of their
    /// first element there. The statistics of batched values are packed into one buffer; other values have their
    /// own, because no dispatch may read and write one buffer.
    pub fn packed(&mut self, value: ValueId) -> (Resource, usize) {
        let root = self.roots[value.0];
        if !self.batch_statistics.contains(&root.0) {
            return (Resource::Value(value), 0);
        }
        let of = self.graph.at(root);
        let end = &mut self.packed_end;
        let first = *self.packed.entry(root.0).or_insert_with(|| {
            // Values begin at multiples of 64 elements (256 bytes, the largest offset alignment of a binding),
            // with room for a guard band between two of them.
            let first = end.next_multiple_of(64);
            *end = first + of.shape.elements() + 64;
            self.lowered.packed.push((root, first));
            first
        });
        (Resource::Packed, first)
    }

    /// Adds a list of constants.
    pub fn list(&mut self, words: Vec<u32>) -> Resource {
        self.lowered.lists.push(words);
        Resource::List(self.lowered.lists.len() - 1)
    }

    /// Returns the parameters of a kernel that processes all images of the batch, with one group.
    pub fn images(&self, window: WindowGeometry, channels: usize) -> Images {
        Images { window, channels, groups: 1, first: 0, count: self.settings.batch }
    }

    /// Returns the launch that adds the partial sums `[splits, channels]`. Buffers: partial sums, sums.
    pub fn sum_of_splits(&self, splits: usize, channels: usize) -> Launch {
        if self.settings.parallel_reductions {
            bias_grad_parallel(&RowTiles::whole(splits, 0, channels))
        } else {
            bias_grad(splits, 0, channels, 1)
        }
    }

    /// Adds a GEMM that computes the operation's result, with the operation's epilogue.
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

    /// Adds a GEMM: as one dispatch, as split-K (partial sums and their reduction), or, if k is too long for
    /// one shader loop, as several dispatches that each add a range of k.
    pub fn gemm(&mut self, op: &Operation, gemm: &Gemm, buffers: &GemmBuffers) {
        let GemmBuffers { a, b, c, epilogue, positions } = *buffers;
        let family = self.settings.family;
        let bias_grad = op.bias_grad.as_ref().filter(|bias_grad| self.can_fuse(gemm, b, bias_grad));
        let bias_grad = bias_grad.map(|bias_grad| Resource::Value(bias_grad.outputs[0]));
        let gradient = gradient_operand(op, b);
        let whole = Gemm { bias_grad: bias_grad.is_some(), gradient, ..*gemm };
        let (whole, [a, b]) = match stored_f16_scales(&whole, family) {
            Some([a_scale, b_scale]) => {
                let stored = [self.rounded(op, a, a_scale), self.rounded(op, b, b_scale)];
                (Gemm { stored_f16: true, ..whole }, stored)
            }
            None => (whole, [a, b]),
        };
        let split = Gemm { splits: splits(&whole, family), ..whole };
        let elements = split.splits * split.m * split.n * split.groups;
        if split.splits > 1 && 4 * elements as u64 <= self.settings.max_binding {
            let partial_sums = self.workspace(elements);
            // The partial sums have no epilogue: it follows their sum. The fourth binding, its operand, must
            // exist but is not read, so `b` is bound there.
            let mut partial = vec![a, b, partial_sums, b];
            let mut reduced = vec![partial_sums, c];
            if let Some(bias_grad) = bias_grad {
                let column_sums = self.workspace(split.splits * split.n * split.groups);
                partial.push(column_sums);
                reduced.extend([column_sums, bias_grad]);
            }
            reduced.extend(epilogue);
            self.push(op, gemm_launch(&split.of_partial_sums(), family), partial);
            let parallel = self.settings.parallel_reductions || split.pixel_set.is_some();
            let parallel = parallel && bias_grad.is_none();
            let sum = if parallel { split_k_sum_parallel(&split) } else { split_k_sum(&split) };
            self.push(op, sum, reduced);
            return;
        }
        for part in whole.parts() {
            // Only the last part applies the epilogue. The binding of the epilogue's operand must exist in
            // every part, so the parts that do not read it bind `b`.
            let operand = epilogue.filter(|_| part.epilogue != Epilogue::None).unwrap_or(b);
            let mut resources = vec![a, b, c, operand];
            resources.extend(positions);
            resources.extend(bias_grad);
            self.push(op, gemm_launch(&part, family), resources);
        }
    }

    /// Returns an operand of a GEMM rounded to f16, and adds the dispatch that rounds it, unless an earlier operation
    /// has rounded it with the same scale.
    fn rounded(&mut self, op: &Operation, operand: Resource, scale: u32) -> Resource {
        let (key, elements) = match operand {
            Resource::Value(id) => {
                let root = self.roots[id.0];
                (Some((root.0, scale)), self.graph.at(root).shape.elements())
            }
            Resource::Workspace(number) => (None, self.lowered.workspaces[number] as usize / 4),
            // GEMMs have no other operands.
            _ => return operand,
        };
        if let Some(stored) = key.and_then(|key| self.stored_f16.get(&key)) {
            return *stored;
        }
        let stored = self.workspace(elements.div_ceil(2));
        self.push(op, round_to_f16(elements, scale), vec![operand, stored]);
        self.stored_f16.extend(key.map(|key| (key, stored)));
        stored
    }

    /// Discards rounded operands: the operation changes values in place.
    pub fn forget_rounded(&mut self) {
        self.stored_f16.clear();
    }

    /// Whether a GEMM reads every element that a bias gradient sums, so that its kernel can also compute the
    /// bias gradient.
    fn can_fuse(&self, gemm: &Gemm, b: Resource, bias_grad: &Node) -> bool {
        let dy = bias_grad.inputs[0];
        b == Resource::Value(dy)
            && gemm.transpose_a
            && !gemm.transpose_b
            && gemm.k <= MAX_TERMS
            && gemm.k * gemm.n * gemm.groups == self.graph.at(dy).shape.elements()
    }

    /// Divides the batch into parts of equal size (the last may be smaller), so that `elements` 4-byte
    /// elements per example fit both `bytes` and a workspace.
    pub fn parts_of_batch(&self, elements: usize, bytes: u64) -> Vec<Range<usize>> {
        let batch = self.settings.batch;
        let bytes = bytes.min(self.settings.workspace_bytes).min(self.settings.max_binding);
        let max_images = bytes / (4 * elements as u64).max(1);
        let max_images = usize::try_from(max_images).unwrap_or(usize::MAX).clamp(1, batch);
        let each = batch.div_ceil(batch.div_ceil(max_images));
        (0..batch).step_by(each).map(|start| start..(start + each).min(batch)).collect()
    }
}

/// Returns the results of all batch statistics of batched values.
fn batch_statistics(graph: &Graph) -> BTreeSet<usize> {
    let of_batch =
        |node: &&Node| matches!(node.op, Op::BatchStatistics { .. }) && graph.at(node.inputs[0]).batched;
    graph.nodes().iter().filter(of_batch).flat_map(|node| node.outputs.iter().map(|id| id.0)).collect()
}

/// Returns which operand of the operation's GEMM contains gradients of the loss, if any; `b` is the GEMM's
/// right operand.
fn gradient_operand(op: &Operation, b: Resource) -> Option<Operand> {
    let input = op.gradient_input?;
    // The partial weight gradient of columns may pass the images (operand 0) as the right matrix.
    let exchanged = b == Resource::Value(op.node.inputs[0]);
    Some(if (input == 1) != exchanged { Operand::B } else { Operand::A })
}
