//! Pooling over whole images.

use super::{Lowering, Place};
use crate::graph::{Node, Op, Value};
use crate::kernels::{global_avg_pool, global_avg_pool_grad};

impl Lowering<'_> {
    /// `images` is the value of shape `[n, h, w, c]`: the operand, or the gradient's result.
    pub(super) fn global_pool(&mut self, node: &Node, images: &Value, places: Vec<Place>) {
        let channels = images.shape.last();
        let pixels = images.elements_per_row() / channels;
        let launch = match node.op {
            Op::GlobalAvgPool => global_avg_pool(self.graph.batch(), pixels, channels),
            _ => global_avg_pool_grad(self.graph.batch(), pixels, channels),
        };
        self.push(node, launch, places);
    }
}
