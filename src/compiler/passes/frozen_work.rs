//! Finds the work that need not be done because elements are frozen: operations whose results are not used,
//! and weight gradients of which only a part is needed.

use crate::compiler::conv::{Choice, Pass, choose};
use crate::compiler::ir::roots;
use crate::compiler::options::Settings;
use crate::graph::{Clip, Conv2d, Graph, Node, Op, ParameterId};
use crate::mask::Mask;
use crate::shape::{Padding, Window};
use std::collections::{BTreeMap, BTreeSet};

/// Work that is omitted because of frozen elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrozenWork {
    /// Indices of the nodes to skip, because nothing uses their results.
    pub skipped: BTreeSet<usize>,
    /// For each weight gradient of which only a part is computed, by node index: its algorithm.
    pub partial: BTreeMap<usize, Choice>,
    /// For each parameter, whether every element is frozen.
    pub fully_frozen: Vec<bool>,
}

impl FrozenWork {
    /// Returns the analysis of a graph without frozen elements: no work is omitted.
    pub fn none(graph: &Graph) -> Self {
        let fully_frozen = vec![false; graph.parameters().len()];
        FrozenWork { skipped: BTreeSet::new(), partial: BTreeMap::new(), fully_frozen }
    }
}

/// Visits the operations in reverse order and marks the values that outputs, updates of trainable elements,
/// metrics and running statistics depend on. `masks` contains one mask per parameter, or is empty if nothing
/// is frozen.
pub(crate) fn frozen_work(graph: &Graph, masks: &[Mask], settings: &Settings) -> FrozenWork {
    let nodes = graph.nodes();
    let mut work = FrozenWork::none(graph);
    // If the clipping norm includes frozen elements (`over_all`), their gradients are needed, so no work is
    // omitted.
    let over_all = |node: &Node| matches!(node.op, Op::Clip(Clip::Norm { over_all: true, .. }, _));
    if masks.is_empty() || nodes.iter().any(over_all) {
        return work;
    }
    for (fully_frozen, mask) in work.fully_frozen.iter_mut().zip(masks) {
        *fully_frozen = mask.frozen_count() == mask.len();
    }
    let roots = roots(graph);
    let mut needed: Vec<bool> = vec![false; roots.len()];
    for (value, root) in graph.values().iter().zip(&roots) {
        needed[root.0] |= value.output;
    }
    // For each value that is read only as the gradient of one parameter (by its update, clip or
    // accumulation): that parameter.
    let mut gradient_of: Vec<Option<ParameterId>> = vec![None; roots.len()];
    for (index, node) in nodes.iter().enumerate().rev() {
        if let Some(targets) = targets(&node.op) {
            for (gradient, target) in node.inputs.iter().zip(targets) {
                let root = roots[gradient.0].0;
                if !needed[root] {
                    gradient_of[root] = Some(target);
                }
                if gradient_of[root].is_none() || !work.fully_frozen[target.0] {
                    needed[root] = true;
                }
            }
            continue;
        }
        let has_effect = matches!(node.op, Op::Metrics | Op::UpdateStatistics(..));
        if !has_effect && !node.outputs.iter().any(|output| needed[roots[output.0].0]) {
            work.skipped.insert(index);
        } else if !matches!(node.op, Op::Reshape(_)) {
            for input in &node.inputs {
                let root = roots[input.0].0;
                needed[root] = true;
                gradient_of[root] = None;
            }
        }
    }
    for (index, node) in nodes.iter().enumerate() {
        let Some(conv) = weight_gradient(graph, node).filter(|_| !work.skipped.contains(&index)) else {
            continue;
        };
        let mask = gradient_of[roots[node.outputs[0].0].0].and_then(|id| masks.get(id.0));
        if let Some(mask) = mask.filter(|mask| mask.frozen_count() > 0) {
            let choice = choose(&conv, Pass::GradKernel, Some(mask), settings);
            if choice.algorithm.is_partial() {
                work.partial.insert(index, choice);
            }
        }
    }
    work
}

/// Returns the parameters whose gradients an update, an accumulation or a clip reads.
fn targets(op: &Op) -> Option<Vec<ParameterId>> {
    match op {
        Op::Update(_, targets) => Some(targets.iter().map(|t| t.parameter).collect()),
        Op::Accumulate(targets) | Op::Clip(_, targets) => Some(targets.clone()),
        _ => None,
    }
}

/// Returns the geometry of the convolution whose kernel gradient this node computes, or `None` for other
/// nodes. A dense layer counts as a 1x1 convolution of one pixel.
pub(crate) fn weight_gradient(graph: &Graph, node: &Node) -> Option<Conv2d> {
    match node.op {
        Op::Conv2dGradKernel(conv) => Some(conv),
        Op::MatMul { transpose_a: true, transpose_b: false } => {
            let [x, dy] = [0, 1].map(|i| node.inputs.get(i).map(|&id| graph.at(id)));
            let (x, dy) = (x?, dy?);
            let window = Window { padding: Padding::Valid, ..Window::new([1, 1]) };
            let both = x.batched && dy.batched && x.shape.rank() == 2 && dy.shape.rank() == 2;
            let conv = Conv2d::new([1, 1, x.shape.last()], dy.shape.last(), window, 1, &node.label);
            conv.ok().filter(|_| both)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{DType, UpdateRule};
    use crate::shape::Shape;

    const SGD: UpdateRule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

    /// Creates two dense layers (kernels `w1 [64, 64]`, then `w2 [64, 32]`), their backward operations and
    /// the update of both kernels. If `marked`, the gradient of `w1` is an output of the graph. Nodes: 0 `h`,
    /// 1 `y`, 2 `dw2`, 3 `dh`, 4 `dw1`.
    fn two_layers(marked: bool, clip: Option<Clip>) -> (Graph, Vec<Mask>) {
        let mut g = Graph::new(4).unwrap();
        let x = g.batch_input("x", &[64], DType::F32).unwrap();
        let dy = g.batch_input("dy", &[32], DType::F32).unwrap();
        let w1 = g.parameter("w1", Shape::new([64, 64]).unwrap()).unwrap();
        let w2 = g.parameter("w2", Shape::new([64, 32]).unwrap()).unwrap();
        let forward = Op::MatMul { transpose_a: false, transpose_b: false };
        let outer = Op::MatMul { transpose_a: true, transpose_b: false };
        let back = Op::MatMul { transpose_a: false, transpose_b: true };
        let h = g.push_one(forward.clone(), &[x, w1], "h").unwrap();
        let y = g.push_one(forward, &[h, w2], "y").unwrap();
        g.mark_output(y).unwrap();
        let dw2 = g.push_one(outer.clone(), &[h, dy], "dw2").unwrap();
        let dh = g.push_one(back, &[dy, w2], "dh").unwrap();
        let dw1 = g.push_one(outer, &[x, dh], "dw1").unwrap();
        if marked {
            g.mark_output(dw1).unwrap();
        }
        if let Some(clip) = clip {
            g.push(Op::Clip(clip, vec![ParameterId(1)]), &[dw2], "clip").unwrap();
        }
        let both = vec![ParameterId(0).into(), ParameterId(1).into()];
        g.push(Op::Update(SGD, both), &[dw1, dw2], "update").unwrap();
        (g, vec![Mask::none(64 * 64).unwrap(), Mask::none(64 * 32).unwrap()])
    }

    fn skipped(graph: &Graph, masks: &[Mask]) -> Vec<usize> {
        frozen_work(graph, masks, &Settings::SOFTWARE).skipped.into_iter().collect()
    }

    #[test]
    fn no_gradient_is_computed_below_the_lowest_trainable_layer() {
        let (graph, mut masks) = two_layers(false, None);
        let none: [usize; 0] = [];
        assert_eq!(skipped(&graph, &[]), none);
        assert_eq!(skipped(&graph, &masks), none);
        masks[1] = Mask::all(64 * 32).unwrap();
        assert_eq!(skipped(&graph, &masks), [2], "the upper layer frozen");
        masks[0] = Mask::all(64 * 64).unwrap();
        assert_eq!(skipped(&graph, &masks), [2, 3, 4], "both layers frozen");
        masks[1] = Mask::none(64 * 32).unwrap();
        assert_eq!(skipped(&graph, &masks), [3, 4], "the lower layer frozen");
        let (graph, _) = two_layers(true, None);
        assert_eq!(
            skipped(&graph, &masks),
            none,
            "the gradient of the lower kernel is an output of the graph"
        );
    }

    #[test]
    fn norm_over_all_elements_needs_every_gradient() {
        for over_all in [false, true] {
            let (graph, _) = two_layers(false, Some(Clip::Norm { max: 1.0, over_all }));
            let frozen = [Mask::all(64 * 64).unwrap(), Mask::all(64 * 32).unwrap()];
            assert_eq!(skipped(&graph, &frozen).is_empty(), over_all);
        }
    }
}
