//! Pooling over whole images, and gradients of pools that do more.

use super::{Lowering, Place, PoolEnding};
use crate::graph::{Node, Op, Value};
use crate::kernels::{global_avg_pool, global_avg_pool_grad, max_pool2d_grad};

impl Lowering<'_> {
    /// The gradient of a max-pool and of the ReLU before it.
    pub(super) fn pool_grad_ending(&mut self, node: &Node, ending: PoolEnding) {
        let Op::MaxPool2dGrad(pool) = node.op else { return };
        let launch = max_pool2d_grad(&self.pool_images(pool.window, pool.channels), true);
        let bound = [node.inputs[0], node.inputs[1], ending.pooled, ending.output];
        self.push(node, launch, bound.map(Place::Value).to_vec());
    }

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
