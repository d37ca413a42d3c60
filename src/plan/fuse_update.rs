//! Which weight gradients can end with the update of their weights, so that they are never written.

use super::alias::roots;
use crate::graph::{Graph, Op, Role, Target, UpdateRule, ValueId};

/// How the product of a weight gradient ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct UpdateEnding {
    pub rule: UpdateRule,
    pub target: Target,
    /// The node after which it may run: nothing reads the weights any more, and the loss is known to be finite or not.
    pub after: usize,
}

/// For each node, `Some` if its one result is a gradient that nothing but the update reads.
pub(super) fn fuse_updates(graph: &Graph) -> Vec<Option<UpdateEnding>> {
    let nodes = graph.nodes();
    let mut endings = vec![None; nodes.len()];
    let roots = roots(graph);
    let readers = |value: ValueId| -> Vec<usize> {
        let reads = |&i: &usize| nodes[i].inputs.iter().any(|input| roots[input.0] == roots[value.0]);
        (0..nodes.len()).filter(reads).collect()
    };
    let metrics = nodes.iter().rposition(|node| node.op == Op::Metrics);
    for (index, node) in nodes.iter().enumerate() {
        let product =
            matches!(node.op, Op::Conv2dGradKernel(_) | Op::MatMul { transpose_a: true, transpose_b: false });
        let Some(&gradient) = node.outputs.first().filter(|id| product && !graph.at(**id).output) else {
            continue;
        };
        let [update] = readers(gradient)[..] else { continue };
        let Op::Update(rule, targets) = &nodes[update].op else { continue };
        let target = nodes[update].inputs.iter().zip(targets).find(|(input, _)| **input == gradient);
        let Some((_, &target)) = target else { continue };
        let weights = graph.at_parameter(target.parameter);
        // A second update would have to see the first one's weights.
        let updates =
            |op: &Op| matches!(op, Op::Update(_, all) if all.iter().any(|t| t.parameter == target.parameter));
        let alone = nodes.iter().filter(|other| updates(&other.op)).count() == 1;
        let after = readers(weights).into_iter().chain(metrics).chain([index]).max().unwrap_or(index);
        // What is read cannot be in the arena that is written.
        let apart =
            node.inputs.iter().all(|input| !matches!(graph.at(roots[input.0]).role, Role::Parameter(_)));
        if alone && apart && after < update && !graph.at(weights).output {
            endings[index] = Some(UpdateEnding { rule: *rule, target, after });
        }
    }
    endings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Clip, DType, ParameterId};
    use crate::shape::Shape;

    const RULE: UpdateRule = UpdateRule::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };

    /// A dense layer: forward, its kernel's gradient, its input's; what `more` adds; and the update.
    fn layer(more: impl FnOnce(&mut Graph, [ValueId; 2])) -> Graph {
        let mut g = Graph::new(4).unwrap();
        let x = g.batch_input("x", &[8], DType::F32).unwrap();
        let dy = g.batch_input("dy", &[4], DType::F32).unwrap();
        let w = g.parameter("w", Shape::new([8, 4]).unwrap()).unwrap();
        let product = |transpose_a, transpose_b| Op::MatMul { transpose_a, transpose_b };
        g.push(product(false, false), &[x, w], "y").unwrap();
        let dw = g.push_one(product(true, false), &[x, dy], "dw").unwrap();
        g.push(product(false, true), &[dy, w], "dx").unwrap();
        more(&mut g, [w, dw]);
        g.push(Op::Update(RULE, vec![ParameterId(0).into()]), &[dw], "update").unwrap();
        g
    }

    #[test]
    fn a_gradient_waits_for_the_last_that_reads_its_weights() {
        let ending = UpdateEnding { rule: RULE, target: ParameterId(0).into(), after: 2 };
        let graph = layer(|_, _| {});
        assert_eq!(fuse_updates(&graph), [None, Some(ending), None, None]);
        // Under another shape, too.
        let graph = layer(|g, [w, _]| {
            let flat = g.push_one(Op::Reshape(vec![32]), &[w], "flat").unwrap();
            g.push_one(Op::Relu, &[flat], "reader").unwrap();
        });
        assert_eq!(fuse_updates(&graph)[1], Some(UpdateEnding { after: 4, ..ending }));
    }

    #[test]
    fn a_gradient_that_something_else_needs_is_written() {
        let apart: [fn(&mut Graph, [ValueId; 2]); 4] = [
            |g, [_, dw]| g.mark_output(dw).unwrap(),
            |g, [_, dw]| {
                g.push(Op::Clip(Clip::norm(1.0), vec![ParameterId(0)]), &[dw], "clip").map(|_| ()).unwrap()
            },
            |g, [_, dw]| g.push(Op::Accumulate(vec![ParameterId(0)]), &[dw], "sum").map(|_| ()).unwrap(),
            |g, [_, dw]| {
                let flat = g.push_one(Op::Reshape(vec![32]), &[dw], "flat").unwrap();
                g.push_one(Op::Relu, &[flat], "reader").unwrap();
            },
        ];
        for (number, more) in apart.into_iter().enumerate() {
            assert_eq!(fuse_updates(&layer(more))[1], None, "number {number}");
        }
    }
}
