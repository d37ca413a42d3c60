//! Which gradients of ReLU ride in the gradient of the max-pool after it.

use crate::graph::{Graph, Op, ValueId};

/// The gradient of a max-pool that also does the gradient of the ReLU before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PoolEnding {
    /// What the pool gave. It is the ReLU's own result wherever a gradient arrives, so its sign decides.
    pub pooled: ValueId,
    /// The result of the ReLU's gradient.
    pub output: ValueId,
}

/// For each node, `Some` if it is such a gradient; and whether it is the gradient of a ReLU that is done there.
pub(super) struct PoolFusion {
    pub endings: Vec<Option<PoolEnding>>,
    pub absorbed: Vec<bool>,
}

pub(super) fn fuse_pools(graph: &Graph) -> PoolFusion {
    let nodes = graph.nodes();
    let mut fusion = PoolFusion { endings: vec![None; nodes.len()], absorbed: vec![false; nodes.len()] };
    for (index, node) in nodes.iter().enumerate() {
        let Op::MaxPool2dGrad(pool) = node.op else { continue };
        let (position, given) = (node.inputs[0], node.outputs[0]);
        let forward = nodes[..index].iter().find(|n| n.outputs.contains(&position));
        let Some(forward) = forward.filter(|n| n.op == Op::MaxPool2d(pool)) else { continue };
        // The ReLU's gradient must be alone in reading what the pool's would have written.
        let mut users = nodes.iter().enumerate().filter(|(_, n)| n.inputs.contains(&given));
        let (Some((relu, user)), None) = (users.next(), users.next()) else { continue };
        if user.op == Op::ReluGrad
            && user.inputs == [forward.inputs[0], given]
            && forward.inputs[0] != given
            && !graph.at(given).output
        {
            fusion.absorbed[relu] = true;
            fusion.endings[index] = Some(PoolEnding { pooled: forward.outputs[0], output: user.outputs[0] });
        }
    }
    fusion
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{DType, Pool2d};
    use crate::shape::{Padding, Window};

    struct Built {
        graph: Graph,
        pooled: ValueId,
        gradient: ValueId,
        output: ValueId,
    }

    /// A ReLU, a pool and the gradients of both; the gradient of the ReLU looks at its result, or at its operand.
    fn built(at_result: bool) -> Built {
        let window = Window { padding: Padding::Valid, ..Window::new([2, 2]) };
        let pool = Pool2d { window: window.on([4, 4], "pool").unwrap(), channels: 3 };
        let mut graph = Graph::new(2).unwrap();
        let x = graph.batch_input("x", &[4, 4, 3], DType::F32).unwrap();
        let dy = graph.batch_input("dy", &[3, 3, 3], DType::F32).unwrap();
        let y = graph.push_one(Op::Relu, &[x], "relu").unwrap();
        let made = graph.push(Op::MaxPool2d(pool), &[y], "pool").unwrap();
        let gradient = graph.push_one(Op::MaxPool2dGrad(pool), &[made[1], dy], "pool grad").unwrap();
        let of = if at_result { y } else { x };
        let output = graph.push_one(Op::ReluGrad, &[of, gradient], "relu grad").unwrap();
        Built { graph, pooled: made[0], gradient, output }
    }

    #[test]
    fn the_gradient_of_the_relu_rides_along() {
        let Built { graph, pooled, output, .. } = built(true);
        let fusion = fuse_pools(&graph);
        assert_eq!(fusion.endings[2], Some(PoolEnding { pooled, output }));
        assert_eq!(fusion.absorbed, [false, false, false, true]);
    }

    #[test]
    fn what_is_read_elsewhere_or_of_another_value_stays_apart() {
        let mut read = built(true);
        read.graph.mark_output(read.gradient).unwrap();
        let mut twice = built(true);
        twice.graph.push_one(Op::Relu, &[twice.gradient], "another").unwrap();
        for Built { graph, .. } in [read, twice, built(false)] {
            let fusion = fuse_pools(&graph);
            assert!(fusion.endings.iter().all(Option::is_none));
            assert!(!fusion.absorbed.contains(&true));
        }
    }
}
