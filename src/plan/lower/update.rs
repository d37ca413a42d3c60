//! Masked updates.

use super::{Lowering, Place};
use crate::graph::{Node, ParameterId, UpdateRule};
use crate::kernels::{AdamUpdate, SgdMomentumUpdate, adam_update, sgd_momentum_update, sgd_update};
use crate::plan::Layout;
use std::ops::Range;

impl Lowering<'_> {
    /// One dispatch for each run of neighbours in the arenas: a whole model is one.
    pub(super) fn update(
        &mut self,
        node: &Node,
        rule: &UpdateRule,
        targets: &[ParameterId],
        layout: &Layout,
    ) {
        let mut spots: Vec<_> = targets.iter().map(|t| layout.spots()[t.0]).collect();
        spots.sort_by_key(|s| (s.chunk, s.first));
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        for spot in spots {
            let end = spot.first + Layout::room(&spot);
            match runs.last_mut() {
                Some((chunk, run)) if *chunk == spot.chunk && run.end == spot.first => run.end = end,
                _ => runs.push((spot.chunk, spot.first..end)),
            }
        }
        for (chunk, run) in runs {
            let launch = match *rule {
                UpdateRule::Sgd { momentum: 0.0, weight_decay, .. } => sgd_update(run, weight_decay),
                UpdateRule::Sgd { momentum, nesterov, weight_decay } => {
                    sgd_momentum_update(run, &SgdMomentumUpdate { momentum, nesterov, weight_decay })
                }
                UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled } => {
                    adam_update(run, &AdamUpdate { beta1, beta2, epsilon, weight_decay, decoupled })
                }
            };
            let mut places =
                vec![Place::Mask(chunk), Place::Gradients(chunk), Place::Sums, Place::Weights(chunk)];
            places.extend((0..rule.slots().len()).map(|slot| Place::State(slot, chunk)));
            self.push(node, launch, places);
        }
    }
}
