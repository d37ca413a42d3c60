//! Batch normalization.

use super::gemm::row_splits;
use super::{Builder, LoweredDispatch, Resource, extent};
use crate::compiler::ir::Operation;
use crate::error::Result;
use crate::graph::Op;
use crate::kernels::{
    MAX_RANGES, RowTiles, RunningStatistic, batch_moments, batch_moments_parallel, batch_norm,
    batch_norm_grad_input, batch_norm_grad_scale, batch_norm_grad_scale_parallel, batch_statistics,
    batch_statistics_parallel, update_statistics as update_statistics_of,
};
use std::collections::BTreeSet;

/// Lowers batch statistics, batch normalization, or one of its gradients.
pub(super) fn norm(b: &mut Builder, op: &Operation) -> Result<()> {
    let node = &op.node;
    let x = b.graph.at(node.inputs[0]);
    let resources: Vec<_> = node.inputs.iter().chain(&node.outputs).map(|&id| Resource::Value(id)).collect();
    let channels = x.shape.last();
    let rows = x.shape.elements() / channels;
    let per_row = x.elements_per_row() / channels;
    let parallel = b.settings.parallel_reductions;
    let tiles = RowTiles::new(rows, per_row, channels);
    // The serial kernel of the batch statistics loops over its rows twice.
    let splits = if parallel { tiles.splits() } else { row_splits(rows, 2, b.settings.max_iterations) };
    match node.op {
        Op::BatchStatistics { epsilon } => {
            let moments = b.workspace(2 * splits * channels);
            let (partial, merge) = if parallel {
                (batch_moments_parallel(&tiles), batch_statistics_parallel(&tiles, epsilon))
            } else {
                let partial = batch_moments(rows, per_row, channels, splits);
                (partial, batch_statistics(rows, per_row, channels, splits, epsilon))
            };
            b.push(op, partial, vec![resources[0], moments]);
            b.push(op, merge, [&[moments], &resources[1..]].concat());
        }
        Op::BatchNorm { epsilon } => b.push(op, batch_norm(extent(x), channels, epsilon), resources),
        Op::BatchNormGradScale { epsilon } => {
            let sums = if parallel {
                batch_norm_grad_scale_parallel(&tiles, epsilon)
            } else {
                batch_norm_grad_scale(rows, per_row, channels, splits, epsilon)
            };
            if splits == 1 {
                b.push(op, sums, resources);
                return Ok(());
            }
            let partial = b.workspace(splits * channels);
            b.push(op, sums, [&resources[..4], &[partial]].concat());
            b.push(op, b.sum_of_splits(splits, channels), vec![partial, resources[4]]);
        }
        _ => b.push(op, batch_norm_grad_input(extent(x), channels), resources),
    }
    Ok(())
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
