//! What a graph does to gradients before it updates.

use super::{Home, Layout};
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, ValueId};

/// Whether it adds up gradients over several runs.
pub(super) fn accumulates(graph: &Graph) -> bool {
    graph.nodes().iter().any(|node| matches!(node.op, Op::Accumulate(_)))
}

/// What is accumulated or clipped must be in the gradients' arena: the gradient that an update reads.
pub(super) fn check_gradients(
    graph: &Graph,
    layout: &Layout,
    roots: &[ValueId],
    homes: &[Option<Home>],
) -> Result<()> {
    for node in graph.nodes() {
        let (Op::Accumulate(targets) | Op::Clip(_, targets)) = &node.op else { continue };
        for (gradient, target) in node.inputs.iter().zip(targets) {
            if homes[roots[gradient.0].0] != Some(Home::Gradients(layout.spots()[target.0])) {
                let name = &graph.at(*gradient).name;
                return Err(Error::argument(&node.label, "gradients that an update reads", name));
            }
        }
    }
    Ok(())
}
