//! Batch normalization.

use super::gemm::row_splits;
use super::{Builder, LoweredDispatch, Partial, Resource, extent};
use crate::compiler::ir::{FusedNorm, FusedNormGrad, FusedReluGradOfSum, Operation};
use crate::error::Result;
use crate::graph::Op;
use crate::kernels::{
    MAX_RANGES, NormEpilogue, NormGradient, RowTiles, RunningStatistic, batch_moments,
    batch_moments_parallel, batch_norm, batch_norm_grad_input, batch_norm_grad_input_parallel,
    batch_norm_grad_merge, batch_norm_grad_merge_parallel, batch_norm_grad_sums,
    batch_norm_grad_sums_parallel, batch_norm_parallel, batch_statistics, batch_statistics_parallel,
    update_statistics as update_statistics_of,
};
use std::collections::BTreeSet;

/// Lowers batch statistics, batch normalization, or one of its gradients.
pub(super) fn norm(b: &mut Builder, op: &Operation) -> Result<()> {
    let node = &op.node;
    let x = b.graph.at(node.inputs[0]);
    let resources: Vec<_> = node.inputs.iter().chain(&node.outputs).map(|&id| Resource::Value(id)).collect();
    let channels = x.shape.last();
    if let Some(partial) = op.merges.and_then(|producer| b.partial.remove(&producer)) {
        match node.op {
            Op::BatchNorm { .. } => merging_norm(b, op, partial),
            _ => merging_grad_input(b, op, partial),
        }
        return Ok(());
    }
    match node.op {
        Op::BatchStatistics { epsilon } => statistics(b, op, epsilon, &resources),
        Op::BatchNorm { epsilon } => {
            let (epilogue, written) = epilogue(op);
            let launch = batch_norm(extent(x), channels, epsilon, epilogue);
            b.push(op, launch, [&resources[..5], &written].concat());
        }
        Op::BatchNormGradScale { epsilon } => grad_sums(b, op, epsilon),
        _ => b.push(op, batch_norm_grad_input(extent(x), channels), resources),
    }
    Ok(())
}

/// Returns what is fused into a batch normalization, and its result with the added tensor if there is one.
fn epilogue(op: &Operation) -> (NormEpilogue, Vec<Resource>) {
    let unfused = FusedNorm { addend: None, relu: false, output: op.node.outputs[0] };
    let norm = op.norm.unwrap_or(unfused);
    let bound = [norm.output].into_iter().chain(norm.addend).map(Resource::Value).collect();
    (NormEpilogue { adds: norm.addend.is_some(), relu: norm.relu }, bound)
}

/// Lowers a batch normalization that merges the partial batch statistics.
fn merging_norm(b: &mut Builder, op: &Operation, partial: Partial) {
    let (epilogue, written) = epilogue(op);
    let launch = batch_norm_parallel(&partial.tiles, partial.epsilon, partial.first, epilogue);
    let [x, scale, shift] = [0, 1, 2].map(|operand| Resource::Value(op.node.inputs[operand]));
    b.push(op, launch, [&[partial.workspace, x, scale, shift, Resource::Packed], &written[..]].concat());
}

/// Lowers the input gradient of a batch normalization that merges the partial gradients of scale and shift.
fn merging_grad_input(b: &mut Builder, op: &Operation, partial: Partial) {
    let first = [3, 4].map(|operand| b.packed(op.node.inputs[operand]).1);
    let launch = batch_norm_grad_input_parallel(&partial.tiles, first, partial.gradient.is_some());
    let [x, dy, scale, dscale, dshift] =
        [0, 1, 2, 5, 6].map(|operand| Resource::Value(op.node.inputs[operand]));
    let dy = partial.gradient.map_or(dy, Resource::Value);
    let dx = Resource::Value(op.node.outputs[0]);
    b.push(op, launch, vec![x, dy, scale, Resource::Packed, partial.workspace, dscale, dshift, dx]);
}

/// Rows of `x` as a matrix `[rows, channels]`, rows per example, and channels.
fn matrix(b: &Builder, op: &Operation) -> [usize; 3] {
    let x = b.graph.at(op.node.inputs[0]);
    let channels = x.shape.last();
    [x.shape.elements() / channels, x.elements_per_row() / channels, channels]
}

fn statistics(b: &mut Builder, op: &Operation, epsilon: f64, resources: &[Resource]) {
    let [rows, per_row, channels] = matrix(b, op);
    let tiles = RowTiles::new(rows, per_row, channels);
    let (partial, merge, splits) = if b.settings.parallel_reductions {
        (batch_moments_parallel(&tiles), batch_statistics_parallel(&tiles, epsilon), tiles.splits())
    } else {
        // The kernel loops over its rows twice.
        let splits = row_splits(rows, 2, b.settings.max_iterations);
        let partial = batch_moments(rows, per_row, channels, splits);
        (partial, batch_statistics(rows, per_row, channels, splits, epsilon), splits)
    };
    let workspace = b.workspace(2 * splits * channels);
    b.push(op, partial, vec![resources[0], workspace]);
    if op.merged_later {
        let first = [0, 1, 2].map(|result| b.packed(op.node.outputs[result]).1);
        b.partial.insert(op.index, Partial { workspace, tiles, epsilon, first, gradient: None });
        return;
    }
    b.push(op, merge, [&[workspace], &resources[1..]].concat());
}

/// Lowers the scale gradient with the shift gradient, and the ReLU gradient and the sum before them that are
/// fused: to partial sums and their addition.
fn grad_sums(b: &mut Builder, op: &Operation, epsilon: Option<f64>) {
    let [rows, per_row, channels] = matrix(b, op);
    let [x, dy, mean, spread] = [0, 1, 2, 3].map(|operand| Resource::Value(op.node.inputs[operand]));
    let FusedNormGrad { shift_grad, relu_grad, recomputed_relu_grad } = op.norm_grad;
    let gradient = match relu_grad {
        _ if recomputed_relu_grad.is_some() => NormGradient::Recomputed,
        None => NormGradient::Stored,
        Some(FusedReluGradOfSum { other: None, .. }) => NormGradient::Relu,
        Some(_) => NormGradient::SumRelu,
    };
    let tiles = RowTiles::new(rows, per_row, channels);
    let (partial, merge, splits) = if b.settings.parallel_reductions {
        let partial = batch_norm_grad_sums_parallel(&tiles, epsilon, gradient);
        (partial, batch_norm_grad_merge_parallel(&tiles), tiles.splits())
    } else {
        let splits = row_splits(rows, 1, b.settings.max_iterations);
        let partial = batch_norm_grad_sums(rows, per_row, channels, splits, epsilon, gradient);
        (partial, batch_norm_grad_merge(channels, splits), splits)
    };
    let copies = usize::from(recomputed_relu_grad.is_some());
    let sums = b.workspace((2 * splits + copies) * channels);
    let mut resources = vec![x, dy, mean, spread, sums];
    if let Some(relu_grad) = recomputed_relu_grad {
        resources[1] = Resource::Value(relu_grad.gradient);
        resources.extend([relu_grad.scale, relu_grad.shift].map(Resource::Value));
    } else if let Some(relu_grad) = relu_grad {
        // The kernel stores the operand `dy`.
        resources[1] = Resource::Value(relu_grad.gradient);
        resources.extend([Resource::Value(relu_grad.activation), dy]);
        resources.extend(relu_grad.other.map(Resource::Value));
    }
    b.push(op, partial, resources);
    if op.merged_later {
        let gradient = recomputed_relu_grad.map(|relu_grad| relu_grad.gradient);
        let partial = Partial { workspace: sums, tiles, epsilon: 0.0, first: [0; 3], gradient };
        b.partial.insert(op.index, partial);
        return;
    }
    let shift = match shift_grad {
        Some(shift) => Resource::Value(shift),
        // Nothing reads the shift gradient, but the kernel writes it.
        None => b.workspace(channels),
    };
    b.push(op, merge, vec![sums, Resource::Value(op.node.outputs[0]), shift]);
}

/// Lowers consecutive updates of running statistics, which are exponential moving averages: to one dispatch per
/// chunk of the arena and buffer of batch values, without the statistics that are frozen.
pub(super) fn update_statistics(b: &mut Builder, operations: &[Operation]) {
    let mut pending: Vec<(usize, Resource, RunningStatistic)> = Vec::new();
    let mut updated = BTreeSet::new();
    for operation in operations {
        let Op::UpdateStatistics(rule, targets) = &operation.node.op else { continue };
        for (index, target) in targets.iter().enumerate().filter(|(_, target)| !b.fully_frozen[target.0]) {
            let range = b.layout.ranges()[target.0];
            // One dispatch updates a statistic once.
            if !updated.insert(target.0) {
                push_statistics(b, std::mem::take(&mut pending));
                updated = BTreeSet::from([target.0]);
            }
            let (values, first_batch_value) = b.packed(operation.node.inputs[index]);
            let statistic = RunningStatistic {
                first: range.first,
                elements: range.len,
                first_batch_value,
                per_example: rule.per_example,
                unbiased: index == 1 && !rule.biased,
                momentum: rule.momentum,
            };
            pending.push((range.chunk, values, statistic));
        }
    }
    push_statistics(b, pending);
}

/// Adds the dispatches of statistics, each with its chunk and the buffer of its batch values.
fn push_statistics(b: &mut Builder, mut statistics: Vec<(usize, Resource, RunningStatistic)>) {
    while let Some(&(chunk, values, _)) = statistics.first() {
        let (group, rest): (Vec<_>, Vec<_>) =
            statistics.into_iter().partition(|other| (other.0, other.1) == (chunk, values));
        statistics = rest;
        let group: Vec<_> = group.into_iter().map(|(_, _, statistic)| statistic).collect();
        for part in group.chunks(MAX_RANGES) {
            b.lowered.dispatches.push(LoweredDispatch {
                label: "running statistics".into(),
                algorithm: None,
                launch: update_statistics_of(b.layout.first_group(chunk), part),
                resources: vec![
                    Resource::Masks(chunk),
                    values,
                    Resource::RunningSums,
                    Resource::Weights(chunk),
                ],
            });
        }
    }
}
