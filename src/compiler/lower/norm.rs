//! Batch normalization.

use super::gemm::row_splits;
use super::{Builder, Resource, extent};
use crate::compiler::ir::Operation;
use crate::error::Result;
use crate::graph::{Op, ParameterId, StatisticsRule};
use crate::kernels::{
    RowTiles, RunningStatistic, batch_moments, batch_moments_parallel, batch_norm, batch_norm_grad_input,
    batch_norm_grad_scale, batch_norm_grad_scale_parallel, batch_statistics, batch_statistics_parallel,
    update_statistics as update_statistic,
};

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

/// Lowers the update of the running mean and variance, which are exponential moving averages.
pub(super) fn update_statistics(
    b: &mut Builder,
    op: &Operation,
    rule: &StatisticsRule,
    targets: &[ParameterId; 2],
) -> Result<()> {
    for (index, target) in targets.iter().enumerate() {
        let range = b.layout.ranges()[target.0];
        let launch = update_statistic(&RunningStatistic {
            first: range.first,
            first_group: b.layout.first_group(range.chunk),
            elements: range.len,
            per_example: rule.per_example,
            unbiased: index == 1 && !rule.biased,
            momentum: rule.momentum,
        });
        let resources = vec![
            Resource::Masks(range.chunk),
            Resource::Value(op.node.inputs[index]),
            Resource::RunningSums,
            Resource::Weights(range.chunk),
        ];
        b.push(op, launch, resources);
    }
    Ok(())
}
