//! Batch normalization.

use super::gemm::row_splits;
use super::{Builder, Resource, extent};
use crate::compiler::ir::Operation;
use crate::error::Result;
use crate::graph::{Op, ParameterId, StatisticsRule};
use crate::kernels::{
    RunningStatistic, batch_moments, batch_norm, batch_norm_grad_input, batch_norm_grad_scale,
    batch_statistics, bias_grad, update_statistics as update_statistic,
};

/// Lowers batch statistics, batch normalization, or one of its gradients.
pub(super) fn norm(b: &mut Builder, op: &Operation) -> Result<()> {
    let node = &op.node;
    let x = b.graph.at(node.inputs[0]);
    let resources: Vec<_> = node.inputs.iter().chain(&node.outputs).map(|&id| Resource::Value(id)).collect();
    let channels = x.shape.last();
    let rows = x.shape.elements() / channels;
    let per_row = x.elements_per_row() / channels;
    let splits = row_splits(rows);
    match node.op {
        Op::BatchStatistics { epsilon } => {
            let moments = b.workspace(2 * splits * channels);
            b.push(op, batch_moments(rows, per_row, channels, splits), vec![resources[0], moments]);
            let merge = batch_statistics(rows, per_row, channels, splits, epsilon);
            b.push(op, merge, [&[moments], &resources[1..]].concat());
        }
        Op::BatchNorm { epsilon } => b.push(op, batch_norm(extent(x), channels, epsilon), resources),
        Op::BatchNormGradScale { epsilon } if splits > 1 => {
            let partial = b.workspace(splits * channels);
            let sums = batch_norm_grad_scale(rows, per_row, channels, splits, epsilon);
            b.push(op, sums, [&resources[..4], &[partial]].concat());
            b.push(op, bias_grad(splits, 0, channels, 1), vec![partial, resources[4]]);
        }
        Op::BatchNormGradScale { epsilon } => {
            b.push(op, batch_norm_grad_scale(rows, per_row, channels, 1, epsilon), resources);
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
