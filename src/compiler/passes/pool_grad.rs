//! Fuses the gradient of a ReLU into the gradient of the max-pool that follows the ReLU.

use crate::compiler::ir::{FusedReluGrad, Operation};
use crate::graph::{Graph, Op};

/// Fuses each ReLU gradient into the max-pool gradient whose result it reads, if no other operation reads
/// that result.
pub(crate) fn fuse_relu_grad_into_pool_grad(graph: &Graph, mut operations: Vec<Operation>) -> Vec<Operation> {
    let mut fused = vec![false; operations.len()];
    for index in 0..operations.len() {
        let Op::MaxPool2dGrad(pool) = operations[index].node.op else { continue };
        let (positions, gradient) = (operations[index].node.inputs[0], operations[index].node.outputs[0]);
        let forward = operations[..index].iter().find(|op| op.node.outputs.contains(&positions));
        let Some(forward) = forward.filter(|op| op.node.op == Op::MaxPool2d(pool)) else { continue };
        let mut users = operations.iter().enumerate().filter(|(_, op)| op.node.inputs.contains(&gradient));
        let (Some((relu, user)), None) = (users.next(), users.next()) else { continue };
        let activation = forward.node.inputs[0];
        if user.node.op == Op::ReluGrad
            && user.node.inputs == [activation, gradient]
            && activation != gradient
            && !graph.at(gradient).output
        {
            let relu_grad = FusedReluGrad { pooled: forward.node.outputs[0], output: user.node.outputs[0] };
            fused[relu] = true;
            operations[index].relu_grad = Some(relu_grad);
        }
    }
    let mut fused = fused.into_iter();
    operations.retain(|_| !fused.next().unwrap_or(false));
    operations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::ir::operations;
    use crate::graph::{DType, Pool2d, ValueId};
    use crate::shape::{Padding, Window};

    struct Built {
        graph: Graph,
        pooled: ValueId,
        gradient: ValueId,
        output: ValueId,
    }

    /// Creates a ReLU, a max-pool and the gradients of both. If `at_result`, the ReLU gradient reads the
    /// ReLU's result, so it can be fused; otherwise it reads the ReLU's operand, which is not the pool's
    /// input, so it cannot.
    fn built(at_result: bool) -> Built {
        let window = Window { padding: Padding::Valid, ..Window::new([2, 2]) };
        let pool = Pool2d { window: window.on([4, 4], "pool").unwrap(), channels: 3 };
        let mut graph = Graph::new(2).unwrap();
        let x = graph.batch_input("x", &[4, 4, 3], DType::F32).unwrap();
        let dy = graph.batch_input("dy", &[3, 3, 3], DType::F32).unwrap();
        let y = graph.push_one(Op::Relu, &[x], "relu").unwrap();
        let outputs = graph.push(Op::MaxPool2d(pool), &[y], "pool").unwrap();
        let gradient = graph.push_one(Op::MaxPool2dGrad(pool), &[outputs[1], dy], "pool grad").unwrap();
        let operand = if at_result { y } else { x };
        let output = graph.push_one(Op::ReluGrad, &[operand, gradient], "relu grad").unwrap();
        Built { graph, pooled: outputs[0], gradient, output }
    }

    fn fused(graph: &Graph) -> Vec<Operation> {
        fuse_relu_grad_into_pool_grad(graph, operations(graph))
    }

    #[test]
    fn relu_gradient_fuses_into_the_pool_gradient() {
        let Built { graph, pooled, output, .. } = built(true);
        let operations = fused(&graph);
        assert_eq!(operations.iter().map(|op| op.index).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(operations[2].relu_grad, Some(FusedReluGrad { pooled, output }));
    }

    #[test]
    fn gradient_with_another_reader_or_of_another_relu_is_not_fused() {
        let mut read = built(true);
        read.graph.mark_output(read.gradient).unwrap();
        let mut twice = built(true);
        twice.graph.push_one(Op::Relu, &[twice.gradient], "another").unwrap();
        for Built { graph, .. } in [read, twice, built(false)] {
            let operations = fused(&graph);
            assert_eq!(operations.len(), graph.nodes().len());
            assert!(operations.iter().all(|op| op.relu_grad.is_none()));
        }
    }
}
