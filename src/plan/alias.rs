//! Values that are the same bytes under another shape.

use crate::graph::{Graph, Op, ValueId};

/// For each value, the one whose bytes it shares: itself, unless it is the result of a reshape.
pub(super) fn roots(graph: &Graph) -> Vec<ValueId> {
    let mut roots: Vec<_> = (0..graph.values().len()).map(ValueId).collect();
    // Operands come before results, so one pass follows chains of reshapes to their beginning.
    for node in graph.nodes() {
        if let Op::Reshape(_) = node.op {
            roots[node.outputs[0].0] = roots[node.inputs[0].0];
        }
    }
    roots
}
