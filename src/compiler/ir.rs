//! The compiler's intermediate representation: the graph's operations in execution order, each with the
//! operations that are fused into it.

use super::conv::Choice;
use crate::graph::{Graph, Node, Op, ValueId};
use crate::kernels::Epilogue;

/// An operation of the graph, with the operations that are fused into its kernels.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Index of the node in the graph.
    pub index: usize,
    pub node: Node,
    /// Fused epilogue of a GEMM or a convolution.
    pub epilogue: Option<FusedEpilogue>,
    /// Bias gradient to fuse into this weight gradient. If the weight gradient's kernel cannot compute it,
    /// lowering adds a separate dispatch for it.
    pub bias_grad: Option<Node>,
    /// ReLU gradient that is fused into this max-pool gradient; the ReLU is the operation before the pool.
    pub relu_grad: Option<FusedReluGrad>,
    /// Result of the gradient of this loss, if the same dispatch computes it.
    pub loss_grad: Option<ValueId>,
    /// Addition and ReLU that are fused into this batch normalization.
    pub norm: Option<FusedNorm>,
    /// Operations that are fused into this scale gradient of a batch normalization.
    pub norm_grad: FusedNormGrad,
    /// Whether a later operation merges the partial results of this one: of batch statistics a batch
    /// normalization, of a scale gradient the input gradient.
    pub merged_later: bool,
    /// The batch statistics or the scale gradient whose partial results this operation merges: its index in the
    /// graph.
    pub merges: Option<usize>,
    /// Algorithm of a convolution, of one of its gradients, or of the gradient of a partly frozen dense
    /// kernel.
    pub choice: Option<Choice>,
    /// Index (0 or 1) of the operand of this GEMM or convolution that is computed from a gradient of the
    /// loss; `None` if neither is.
    pub gradient_input: Option<usize>,
}

/// Fused epilogue of a GEMM or a convolution, with the values that it reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FusedEpilogue {
    pub kind: Epilogue,
    /// Bias of [`Epilogue::Bias`], or ReLU output of [`Epilogue::ReluGrad`].
    pub operand: Option<ValueId>,
    /// Value that the epilogue writes.
    pub output: ValueId,
    /// Position of each maximum, if a 2x2 max-pool is fused; `output` then contains the maxima.
    pub positions: Option<ValueId>,
}

impl FusedEpilogue {
    /// Returns an epilogue that stores the results unchanged.
    pub fn none(output: ValueId) -> Self {
        FusedEpilogue { kind: Epilogue::None, operand: None, output, positions: None }
    }
}

/// ReLU gradient that is fused into the gradient of the max-pool after the ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FusedReluGrad {
    /// Output of the max-pool. At the maxima, where the gradient is nonzero, it equals the ReLU output, so
    /// its sign gives the ReLU's derivative.
    pub pooled: ValueId,
    /// Result of the ReLU gradient.
    pub output: ValueId,
}

/// Addition and ReLU that are fused into a batch normalization, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FusedNorm {
    /// Value that is added to the result.
    pub addend: Option<ValueId>,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// Result of the last of these operations.
    pub output: ValueId,
}

/// Operations that are fused into the scale gradient of a batch normalization: all read the output gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FusedNormGrad {
    /// Result of the shift gradient.
    pub shift_grad: Option<ValueId>,
    /// ReLU gradient whose result is the output gradient.
    pub relu_grad: Option<FusedReluGradOfSum>,
    /// The same for the ReLU that follows the batch normalization, if the kernels of the scale gradient and of the
    /// input gradient compute its sign instead of reading its output.
    pub recomputed_relu_grad: Option<RecomputedReluGrad>,
}

/// ReLU gradient that is fused into the scale gradient and the input gradient of the batch normalization before the
/// ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecomputedReluGrad {
    /// Gradient of the ReLU's output.
    pub gradient: ValueId,
    pub scale: ValueId,
    pub shift: ValueId,
}

/// ReLU gradient, and the sum of gradients before it, that are fused into the operation after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FusedReluGradOfSum {
    /// Output of the ReLU.
    pub activation: ValueId,
    /// Gradient of that output, or the first term of it.
    pub gradient: ValueId,
    /// Second term.
    pub other: Option<ValueId>,
}

impl Operation {
    /// Returns the fused epilogue, or if there is none an epilogue that stores the results unchanged.
    pub fn epilogue(&self) -> FusedEpilogue {
        self.epilogue.unwrap_or_else(|| FusedEpilogue::none(self.node.outputs[0]))
    }
}

/// Converts the nodes of a graph to operations, with nothing fused.
pub(crate) fn operations(graph: &Graph) -> Vec<Operation> {
    let gradients = gradients(graph);
    let is_gradient = |node: &Node, input: usize| node.inputs.get(input).is_some_and(|id| gradients[id.0]);
    let operation = |(index, node): (usize, &Node)| Operation {
        index,
        node: node.clone(),
        epilogue: None,
        bias_grad: None,
        relu_grad: None,
        loss_grad: None,
        norm: None,
        norm_grad: FusedNormGrad::default(),
        merged_later: false,
        merges: None,
        choice: None,
        gradient_input: match node.op {
            // Layers of transposed convolution use `Conv2dGradInput` in the forward pass and `Conv2d` for the
            // input gradient, so either operation may have a gradient as operand 0.
            Op::Conv2d(_) | Op::Conv2dGradInput(_) => is_gradient(node, 0).then_some(0),
            // The operands are usually (images, gradient). The kernel gradient of a transposed convolution
            // exchanges them: its gradient is operand 0.
            Op::Conv2dGradKernel(_) if is_gradient(node, 0) && !is_gradient(node, 1) => Some(0),
            Op::Conv2dGradKernel(_) => Some(1),
            Op::MatMul { .. } if is_gradient(node, 1) => Some(1),
            Op::MatMul { .. } => is_gradient(node, 0).then_some(0),
            _ => None,
        },
    };
    graph.nodes().iter().enumerate().map(operation).collect()
}

/// Returns, for each value, whether it is a gradient of a loss or computed from one.
fn gradients(graph: &Graph) -> Vec<bool> {
    let mut gradients = vec![false; graph.values().len()];
    for node in graph.nodes() {
        let source = matches!(
            node.op,
            Op::SoftmaxCrossEntropyGrad { .. }
                | Op::MeanSquaredErrorGrad
                | Op::ElementLossGrad(_)
                | Op::SoftCrossEntropyGrad
                | Op::MeanGrad
        );
        if source || node.inputs.iter().any(|input| gradients[input.0]) {
            node.outputs.iter().for_each(|output| gradients[output.0] = true);
        }
    }
    gradients
}

/// Returns, for each value, the value whose memory it shares: for the result of a reshape (or of a chain of
/// reshapes) the original operand, otherwise the value itself.
pub(crate) fn roots(graph: &Graph) -> Vec<ValueId> {
    let mut roots: Vec<_> = (0..graph.values().len()).map(ValueId).collect();
    // Nodes are in topological order, so one pass resolves chains of reshapes.
    for node in graph.nodes() {
        if let Op::Reshape(_) = node.op {
            roots[node.outputs[0].0] = roots[node.inputs[0].0];
        }
    }
    roots
}
