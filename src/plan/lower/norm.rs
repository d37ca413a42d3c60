//! Batch norm.

use super::{Lowering, Place, extent};
use crate::graph::{Node, Op, ParameterId, StatisticsRule, Value};
use crate::kernels::{
    RunningStatistic, batch_moments, batch_norm, batch_norm_grad_input, batch_norm_grad_scale,
    batch_statistics, bias_grad, update_statistics,
};

impl Lowering<'_> {
    /// `places` are those of the operands and the results, in order.
    pub(super) fn norm(&mut self, node: &Node, x: &Value, places: Vec<Place>) {
        let channels = x.shape.last();
        let rows = x.shape.elements() / channels;
        let per_row = x.elements_per_row() / channels;
        // Enough splits to fill a GPU, each with enough rows to be worth an invocation.
        let splits = (rows / 64).clamp(1, 256);
        match node.op {
            Op::BatchStatistics { epsilon } => {
                let moments = self.workspace(2 * splits * channels);
                self.push(node, batch_moments(rows, per_row, channels, splits), vec![places[0], moments]);
                let merge = batch_statistics(rows, per_row, channels, splits, epsilon);
                self.push(node, merge, [&[moments], &places[1..]].concat());
            }
            Op::BatchNorm { epsilon } => self.push(node, batch_norm(extent(x), channels, epsilon), places),
            Op::BatchNormGradScale if splits > 1 => {
                let partial = self.workspace(splits * channels);
                let sums = batch_norm_grad_scale(rows, per_row, channels, splits);
                self.push(node, sums, [&places[..4], &[partial]].concat());
                self.push(node, bias_grad(splits, 0, channels, 1), vec![partial, places[4]]);
            }
            Op::BatchNormGradScale => {
                self.push(node, batch_norm_grad_scale(rows, per_row, channels, 1), places);
            }
            _ => self.push(node, batch_norm_grad_input(extent(x), channels), places),
        }
    }

    pub(super) fn update_statistics(
        &mut self,
        node: &Node,
        rule: &StatisticsRule,
        targets: &[ParameterId; 2],
    ) {
        for (index, target) in targets.iter().enumerate() {
            let spot = self.layout.spots()[target.0];
            let launch = update_statistics(&RunningStatistic {
                first: spot.first,
                elements: spot.len,
                per_example: rule.per_example,
                unbiased: index == 1 && !rule.biased,
                momentum: rule.momentum,
            });
            let places = vec![
                Place::Mask(spot.chunk),
                Place::Value(node.inputs[index]),
                Place::Sums,
                Place::Weights(spot.chunk),
            ];
            self.push(node, launch, places);
        }
    }
}
