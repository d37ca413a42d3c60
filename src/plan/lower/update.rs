//! Masked updates, and what is done to gradients before them.

use super::{Lowering, Place};
use crate::graph::{Clip, Node, Op, ParameterId, Target, UpdateRule};
use crate::kernels::{
    AdamUpdate, Launch, RmsPropUpdate, SgdMomentumUpdate, UpdateRange, accumulate, adagrad_update,
    adam_update, amsgrad_update, clip_scale, gradient_norm, norm_parts, rmsprop_centered_momentum_update,
    rmsprop_centered_update, rmsprop_momentum_update, rmsprop_update, sgd_momentum_update, sgd_update,
};
use crate::plan::Layout;
use std::ops::Range;

/// A run of neighbours in an arena that are updated alike.
struct Run {
    chunk: usize,
    range: UpdateRange,
    decay_scale: f64,
}

impl Lowering<'_> {
    /// One dispatch for each run of neighbours in the arenas with equal factors: a whole model is one.
    pub(super) fn update(&mut self, node: &Node, rule: &UpdateRule, targets: &[Target]) {
        for Run { chunk, range, decay_scale } in self.runs(targets) {
            let launch = launch(&rule.scale_decay(decay_scale), &range);
            let mut places =
                vec![Place::Gradients(chunk), Place::Mask(chunk), Place::Sums, Place::Weights(chunk)];
            places.extend((0..rule.slots().len()).map(|slot| Place::State(slot, chunk)));
            self.push(node, launch, places);
        }
    }

    fn runs(&self, targets: &[Target]) -> Vec<Run> {
        let clip = self.graph.nodes().iter().find_map(|node| match &node.op {
            Op::Clip(clip, clipped) => Some((*clip, clipped)),
            _ => None,
        });
        let moving = targets.iter().filter(|t| !self.savings.whole[t.parameter.0]);
        let mut targets: Vec<_> = moving.map(|t| (self.layout.spots()[t.parameter.0], t)).collect();
        targets.sort_by_key(|(spot, _)| (spot.chunk, spot.first));
        let mut runs: Vec<Run> = Vec::new();
        for (spot, target) in targets {
            let clipped = clip.filter(|(_, ids)| ids.contains(&target.parameter));
            let next = UpdateRange {
                first: spot.first,
                elements: Layout::room(&spot),
                rate_scale: target.learning_rate,
                clip: clipped.map(|(clip, _)| clip),
            };
            let joins = |run: &&mut Run| {
                run.chunk == spot.chunk
                    && run.range.first + run.range.elements == next.first
                    && run.range.rate_scale == next.rate_scale
                    && run.decay_scale == target.weight_decay
                    && run.range.clip == next.clip
            };
            match runs.last_mut().filter(joins) {
                Some(run) => run.range.elements += next.elements,
                None => runs.push(Run { chunk: spot.chunk, range: next, decay_scale: target.weight_decay }),
            }
        }
        runs
    }

    /// One dispatch for each tensor, for nothing may touch the gaps between them.
    pub(super) fn accumulate(&mut self, node: &Node, targets: &[ParameterId]) {
        for target in targets.iter().filter(|target| !self.savings.whole[target.0]) {
            let spot = self.layout.spots()[target.0];
            let places = vec![Place::Gradients(spot.chunk), Place::Accumulated(spot.chunk)];
            self.push(node, accumulate(spot.first..spot.first + spot.len), places);
        }
    }

    /// The norm, and what it makes of the gradients; clipping by value needs nothing before the update.
    pub(super) fn clip(&mut self, node: &Node, clip: Clip, targets: &[ParameterId]) {
        let Clip::Norm { max, over_all } = clip else { return };
        let moving = targets.iter().filter(|target| !self.savings.whole[target.0]);
        let targets: Vec<_> = moving.copied().collect();
        let ranges = ranges(&targets, self.layout, over_all);
        let parts: Vec<_> = ranges.iter().map(|(_, range)| norm_parts(range.len())).collect();
        let total = parts.iter().sum();
        let place = self.workspace(total);
        let mut part = 0;
        for ((chunk, range), count) in ranges.iter().zip(parts) {
            let launch = gradient_norm(range, part, over_all);
            self.push(node, launch, vec![Place::Mask(*chunk), Place::Gradients(*chunk), place]);
            part += count;
        }
        self.push(node, clip_scale(total, max), vec![place, Place::Sums]);
    }
}

/// What a norm goes over. The mask leaves out the gaps between tensors, unless it is not asked.
fn ranges(targets: &[ParameterId], layout: &Layout, over_all: bool) -> Vec<(usize, Range<usize>)> {
    let mut spots: Vec<_> = targets.iter().map(|t| layout.spots()[t.0]).collect();
    spots.sort_by_key(|s| (s.chunk, s.first));
    let mut all: Vec<(usize, Range<usize>)> = Vec::new();
    for spot in spots {
        if over_all {
            all.push((spot.chunk, spot.first..spot.first + spot.len));
            continue;
        }
        let end = spot.first + Layout::room(&spot);
        match all.last_mut() {
            Some((chunk, range)) if *chunk == spot.chunk && range.end == spot.first => range.end = end,
            _ => all.push((spot.chunk, spot.first..end)),
        }
    }
    all
}

fn launch(rule: &UpdateRule, range: &UpdateRange) -> Launch {
    match *rule {
        UpdateRule::Sgd { momentum: 0.0, weight_decay, .. } => sgd_update(range, weight_decay),
        UpdateRule::Sgd { momentum, nesterov, weight_decay } => {
            sgd_momentum_update(range, &SgdMomentumUpdate { momentum, nesterov, weight_decay })
        }
        UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled, amsgrad } => {
            let rule = AdamUpdate { beta1, beta2, epsilon, weight_decay, decoupled };
            if amsgrad { amsgrad_update(range, &rule) } else { adam_update(range, &rule) }
        }
        UpdateRule::RmsProp { alpha, epsilon, momentum, centered, weight_decay } => {
            let rule = RmsPropUpdate { alpha, epsilon, momentum, weight_decay };
            match (centered, momentum != 0.0) {
                (false, false) => rmsprop_update(range, &rule),
                (false, true) => rmsprop_momentum_update(range, &rule),
                (true, false) => rmsprop_centered_update(range, &rule),
                (true, true) => rmsprop_centered_momentum_update(range, &rule),
            }
        }
        UpdateRule::Adagrad { epsilon, weight_decay } => adagrad_update(range, epsilon, weight_decay),
    }
}
