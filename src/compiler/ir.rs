//! The compiler's intermediate representation: the graph's operations in order, each with what is fused into it.

use super::conv::Choice;
use crate::graph::{Graph, Node, Op, ValueId};
use crate::kernels::Epilogue;

/// An operation of the graph, with the operations that its kernels compute as well.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// The index of its node in the graph.
    pub index: usize,
    pub node: Node,
    /// Of a GEMM or a convolution: what is done to each result before it is stored.
    pub epilogue: Option<FusedEpilogue>,
    /// Of a weight gradient: the node of the bias gradient, which the same kernel computes if it can.
    pub bias_grad: Option<Node>,
    /// Of the gradient of a max-pool: the gradient of the ReLU before the pool.
    pub relu_grad: Option<FusedReluGrad>,
    /// Of a convolution or one of its gradients, or of a partly frozen dense kernel's gradient: the algorithm.
    pub choice: Option<Choice>,
    /// Of a GEMM or a gradient of a convolution: which of the first two operands is a gradient of the loss.
    pub gradient_input: Option<usize>,
}

/// What is done to the results of a GEMM or a convolution, and which value is written in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FusedEpilogue {
    pub kind: Epilogue,
    /// The bias, or the result of the ReLU.
    pub operand: Option<ValueId>,
    pub output: ValueId,
    /// The position of each maximum, if a 2x2 max-pool follows: `output` holds the maxima.
    pub positions: Option<ValueId>,
}

impl FusedEpilogue {
    /// Stores the results as they are.
    pub fn none(output: ValueId) -> Self {
        FusedEpilogue { kind: Epilogue::None, operand: None, output, positions: None }
    }
}

/// The gradient of the ReLU before a max-pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FusedReluGrad {
    /// The result of the pool. It equals the ReLU's result wherever a gradient arrives, so its sign decides.
    pub pooled: ValueId,
    pub output: ValueId,
}

impl Operation {
    /// The epilogue: without a fused one, the result is stored as it is.
    pub fn epilogue(&self) -> FusedEpilogue {
        self.epilogue.unwrap_or_else(|| FusedEpilogue::none(self.node.outputs[0]))
    }
}

/// The operations of a graph, nothing fused.
pub(crate) fn operations(graph: &Graph) -> Vec<Operation> {
    let gradients = gradients(graph);
    let of = |node: &Node, input: usize| node.inputs.get(input).is_some_and(|id| gradients[id.0]);
    let operation = |(index, node): (usize, &Node)| Operation {
        index,
        node: node.clone(),
        epilogue: None,
        bias_grad: None,
        relu_grad: None,
        choice: None,
        gradient_input: match node.op {
            // In a forward pass, `Conv2dGradInput` is a transposed convolution, whose input gradient is a `Conv2d`.
            Op::Conv2d(_) | Op::Conv2dGradInput(_) => of(node, 0).then_some(0),
            // The kernel gradient of a transposed convolution has its operands exchanged.
            Op::Conv2dGradKernel(_) if of(node, 0) && !of(node, 1) => Some(0),
            Op::Conv2dGradKernel(_) => Some(1),
            Op::MatMul { .. } if of(node, 1) => Some(1),
            Op::MatMul { .. } => of(node, 0).then_some(0),
            _ => None,
        },
    };
    graph.nodes().iter().enumerate().map(operation).collect()
}

/// For each value, whether it is a gradient of a loss or computed from one.
fn gradients(graph: &Graph) -> Vec<bool> {
    let mut gradients = vec![false; graph.values().len()];
    for node in graph.nodes() {
        let source =
            matches!(node.op, Op::SoftmaxCrossEntropyGrad { .. } | Op::MeanSquaredErrorGrad | Op::MeanGrad);
        if source || node.inputs.iter().any(|input| gradients[input.0]) {
            node.outputs.iter().for_each(|output| gradients[output.0] = true);
        }
    }
    gradients
}

/// For each value, the one whose memory it shares: itself, unless it is the result of a reshape.
pub(crate) fn roots(graph: &Graph) -> Vec<ValueId> {
    let mut roots: Vec<_> = (0..graph.values().len()).map(ValueId).collect();
    // Operands come before results, so one pass follows chains of reshapes to their beginning.
    for node in graph.nodes() {
        if let Op::Reshape(_) = node.op {
            roots[node.outputs[0].0] = roots[node.inputs[0].0];
        }
    }
    roots
}
