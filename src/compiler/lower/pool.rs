//! Gradients of max-pooling, and global average pooling.

use super::{Builder, Resource};
use crate::compiler::ir::Operation;
use crate::error::Result;
use crate::graph::{Op, Pool2d};
use crate::kernels::{global_avg_pool, global_avg_pool_grad, global_avg_pool_parallel, max_pool2d_grad};

/// Lowers the gradient of a max-pool, together with the gradient of the ReLU before the pool if that is
/// fused.
pub(super) fn max_pool2d_grad_of(b: &mut Builder, op: &Operation, pool: &Pool2d) -> Result<()> {
    let [positions, dy] = [op.node.inputs[0], op.node.inputs[1]];
    let launch = max_pool2d_grad(&b.images(pool.window, pool.channels), op.relu_grad.is_some());
    // Only a fused ReLU gradient reads the pool's output. Without one, the binding must still exist but is
    // not read.
    let (pooled, output) =
        op.relu_grad.map_or((dy, op.node.outputs[0]), |fused| (fused.pooled, fused.output));
    b.push(op, launch, [positions, dy, pooled, output].map(Resource::Value).to_vec());
    Ok(())
}

/// Lowers global average pooling or its gradient.
pub(super) fn global_avg_pool_of(b: &mut Builder, op: &Operation) -> Result<()> {
    let node = &op.node;
    let forward = node.op == Op::GlobalAvgPool;
    // `images` is the value of shape `[n, h, w, c]`: the operand of the pool, or the result of its gradient.
    let images = b.graph.at(if forward { node.inputs[0] } else { node.outputs[0] });
    let channels = images.shape.last();
    let pixels = images.elements_per_row() / channels;
    let batch = b.graph.batch();
    let launch = match forward {
        true if b.settings.parallel_reductions => global_avg_pool_parallel(batch, pixels, channels),
        true => global_avg_pool(batch, pixels, channels),
        false => global_avg_pool_grad(batch, pixels, channels),
    };
    b.push(op, launch, node.inputs.iter().chain(&node.outputs).map(|&id| Resource::Value(id)).collect());
    Ok(())
}
