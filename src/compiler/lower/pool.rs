//! Pooling and resampling.

use super::{Builder, Resource};
use crate::compiler::ir::Operation;
use crate::error::Result;
use crate::graph::{Op, Pool2d, Resample2d};
use crate::kernels::{
    RUN, ResampleTable, avg_pool2d, avg_pool2d_grad, global_avg_pool, global_avg_pool_grad,
    global_avg_pool_parallel, max_pool2d, max_pool2d_grad, resample2d, sum_parts, tap_parts,
};

/// Lowers max-pooling, average pooling or the gradient of average pooling: to one dispatch, or to several that
/// each cover some kernel positions.
pub(super) fn pool_of(b: &mut Builder, op: &Operation, pool: &Pool2d) -> Result<()> {
    let node = &op.node;
    let images = b.images(pool.window, pool.channels);
    let pixels = if matches!(node.op, Op::MaxPool2d(_)) { RUN } else { 1 };
    for taps in tap_parts(&pool.window, pixels, b.settings.max_iterations) {
        let launch = match node.op {
            Op::MaxPool2d(_) => max_pool2d(&images, &taps),
            Op::AvgPool2d(_) => avg_pool2d(&images, &taps),
            _ => avg_pool2d_grad(&images, &taps),
        };
        let resources = node.inputs.iter().chain(&node.outputs).map(|&id| Resource::Value(id)).collect();
        b.push(op, launch, resources);
    }
    Ok(())
}

/// Lowers the gradient of a max-pool, together with the gradient of the ReLU before the pool if that is
/// fused.
pub(super) fn max_pool2d_grad_of(b: &mut Builder, op: &Operation, pool: &Pool2d) -> Result<()> {
    let [positions, dy] = [op.node.inputs[0], op.node.inputs[1]];
    let images = b.images(pool.window, pool.channels);
    // Only a fused ReLU gradient reads the pool's output. Without one, the binding must still exist but is
    // not read.
    let (pooled, output) =
        op.relu_grad.map_or((dy, op.node.outputs[0]), |fused| (fused.pooled, fused.output));
    for taps in tap_parts(&pool.window, RUN, b.settings.max_iterations) {
        let launch = max_pool2d_grad(&images, &taps, op.relu_grad.is_some());
        b.push(op, launch, [positions, dy, pooled, output].map(Resource::Value).to_vec());
    }
    Ok(())
}

/// Lowers a resampling: to one dispatch, or to several that each add the products of some rows and columns.
pub(super) fn resample2d_of(b: &mut Builder, op: &Operation, resample: &Resample2d) {
    let [rows, columns] = [0, 1].map(|axis| resample.weights(axis));
    let table = ResampleTable::new(&rows, &columns);
    let words = b.list(table.words.clone());
    let [x, y] = [op.node.inputs[0], op.node.outputs[0]].map(Resource::Value);
    for part in table.parts(b.settings.max_iterations) {
        let launch = resample2d(b.settings.batch, resample, &table, &part);
        b.push(op, launch, vec![x, words, y]);
    }
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
    let [source, result] = [node.inputs[0], node.outputs[0]].map(Resource::Value);
    if forward && b.settings.parallel_reductions {
        b.push(op, global_avg_pool_parallel(batch, pixels, channels), vec![source, result]);
    } else if forward {
        mean_of_pixels(b, op, [batch, pixels, channels], 1.0 / pixels as f64, [source, result]);
    } else {
        b.push(op, global_avg_pool_grad(batch, pixels, channels), vec![source, result]);
    }
    Ok(())
}

/// Adds the sums of the pixels of `[images, pixels, channels]`, times `factor`. Sums with more terms than the
/// limit of loop iterations are computed as partial sums, which a second dispatch adds.
pub(super) fn mean_of_pixels(
    b: &mut Builder,
    op: &Operation,
    [images, pixels, channels]: [usize; 3],
    factor: f64,
    [source, result]: [Resource; 2],
) {
    if pixels <= b.settings.max_iterations {
        b.push(op, global_avg_pool(images, pixels, channels, 1, factor), vec![source, result]);
        return;
    }
    let splits = sum_parts(pixels);
    let partial = b.workspace(images * splits * channels);
    b.push(op, global_avg_pool(images, pixels, channels, splits, 1.0), vec![source, partial]);
    b.push(op, global_avg_pool(images, splits, channels, 1, factor), vec![partial, result]);
}
