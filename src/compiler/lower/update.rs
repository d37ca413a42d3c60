//! Masked updates, and the accumulation and clipping of gradients before them.

use super::{Builder, Resource};
use crate::compiler::ir::Operation;
use crate::compiler::memory::Layout;
use crate::error::Result;
use crate::graph::{Clip, Op, ParameterId, Target, UpdateRule};
use crate::kernels::{
    AdamUpdate, Launch, RmsPropUpdate, SgdMomentumUpdate, UpdateRange, accumulate as accumulate_range,
    adagrad_update, adam_update, amsgrad_update, clip_scale, gradient_norm, norm_parts,
    rmsprop_centered_momentum_update, rmsprop_centered_update, rmsprop_momentum_update, rmsprop_update,
    sgd_momentum_update, sgd_update,
};
use std::ops::Range;

/// Parameters that one dispatch updates: they are adjacent in one chunk and have the same learning-rate
/// factor, weight-decay factor and clipping.
struct Run {
    chunk: usize,
    range: UpdateRange,
    decay_scale: f64,
}

/// Lowers an update to one dispatch per [`Run`]. Most models need a single dispatch.
pub(super) fn update(b: &mut Builder, op: &Operation, rule: &UpdateRule, targets: &[Target]) -> Result<()> {
    for Run { chunk, range, decay_scale } in runs(b, targets) {
        let missed_steps = b.settings.missed_steps && matches!(rule, UpdateRule::Adam { .. });
        let launch = launch(&rule.scale_decay(decay_scale), &range, missed_steps);
        let mut resources = vec![
            Resource::Gradients(chunk),
            Resource::Masks(chunk),
            Resource::RunningSums,
            Resource::Weights(chunk),
        ];
        resources.extend((0..rule.slots().len()).map(|slot| Resource::State(slot, chunk)));
        if missed_steps {
            resources.push(Resource::MissedSteps(chunk));
        }
        b.push(op, launch, resources);
    }
    Ok(())
}

/// Groups the trainable parameters of an update into runs.
fn runs(b: &Builder, targets: &[Target]) -> Vec<Run> {
    let clip = b.graph.nodes().iter().find_map(|node| match &node.op {
        Op::Clip(clip, clipped) => Some((*clip, clipped)),
        _ => None,
    });
    let trainable = targets.iter().filter(|t| !b.fully_frozen[t.parameter.0]);
    let mut targets: Vec<_> = trainable.map(|t| (b.layout.ranges()[t.parameter.0], t)).collect();
    targets.sort_by_key(|(range, _)| (range.chunk, range.first));
    let mut runs: Vec<Run> = Vec::new();
    for (range, target) in targets {
        let clipped = clip.filter(|(_, ids)| ids.contains(&target.parameter));
        let next = UpdateRange {
            first: range.first,
            first_group: b.layout.first_group(range.chunk),
            elements: Layout::padded_len(&range),
            rate_scale: target.learning_rate,
            clip: clipped.map(|(clip, _)| clip),
        };
        let continues = |run: &&mut Run| {
            run.chunk == range.chunk
                && run.range.first + run.range.elements == next.first
                && run.range.rate_scale == next.rate_scale
                && run.decay_scale == target.weight_decay
                && run.range.clip == next.clip
        };
        match runs.last_mut().filter(continues) {
            Some(run) => run.range.elements += next.elements,
            None => runs.push(Run { chunk: range.chunk, range: next, decay_scale: target.weight_decay }),
        }
    }
    runs
}

/// Lowers gradient accumulation to one dispatch per tensor, because the padding between tensors must not be
/// written.
pub(super) fn accumulate(b: &mut Builder, op: &Operation, targets: &[ParameterId]) -> Result<()> {
    for target in targets.iter().filter(|target| !b.fully_frozen[target.0]) {
        let range = b.layout.ranges()[target.0];
        let resources = vec![Resource::Gradients(range.chunk), Resource::Accumulated(range.chunk)];
        b.push(op, accumulate_range(range.first..range.first + range.len), resources);
    }
    Ok(())
}

/// Lowers clipping by norm to dispatches that compute the norm of the gradients and the factor that scales
/// them. Clipping by value has no dispatch here, because the update kernel clamps each element.
pub(super) fn clip(b: &mut Builder, op: &Operation, clip: Clip, targets: &[ParameterId]) -> Result<()> {
    let Clip::Norm { max, over_all } = clip else { return Ok(()) };
    let trainable = targets.iter().filter(|target| !b.fully_frozen[target.0]);
    let targets: Vec<_> = trainable.copied().collect();
    let ranges = ranges(&targets, b.layout, over_all);
    let parts: Vec<_> = ranges.iter().map(|(_, range)| norm_parts(range.len())).collect();
    let total = parts.iter().sum();
    let partial = b.workspace(total);
    let mut part = 0;
    for ((chunk, range), count) in ranges.iter().zip(parts) {
        let launch = gradient_norm(range, part, over_all);
        b.push(op, launch, vec![Resource::Masks(*chunk), Resource::Gradients(*chunk), partial]);
        part += count;
    }
    b.push(op, clip_scale(total, max), vec![partial, Resource::RunningSums]);
    Ok(())
}

/// Returns the ranges of elements over which a gradient norm is computed, each with its chunk. Adjacent
/// tensors are merged into one range, because the padding between them is frozen and the norm skips frozen
/// elements. With `over_all`, the norm includes frozen elements, so each tensor has its own range, without
/// padding.
fn ranges(targets: &[ParameterId], layout: &Layout, over_all: bool) -> Vec<(usize, Range<usize>)> {
    let mut tensors: Vec<_> = targets.iter().map(|t| layout.ranges()[t.0]).collect();
    tensors.sort_by_key(|range| (range.chunk, range.first));
    let mut all: Vec<(usize, Range<usize>)> = Vec::new();
    for tensor in tensors {
        if over_all {
            all.push((tensor.chunk, tensor.first..tensor.first + tensor.len));
            continue;
        }
        let end = tensor.first + Layout::padded_len(&tensor);
        match all.last_mut() {
            Some((chunk, range)) if *chunk == tensor.chunk && range.end == tensor.first => range.end = end,
            _ => all.push((tensor.chunk, tensor.first..end)),
        }
    }
    all
}

/// Returns the kernel launch of an update rule for a range of parameters. With `missed_steps`, Adam's kernels
/// read how many steps each element missed.
fn launch(rule: &UpdateRule, range: &UpdateRange, missed_steps: bool) -> Launch {
    match *rule {
        UpdateRule::Sgd { momentum: 0.0, weight_decay, .. } => sgd_update(range, weight_decay),
        UpdateRule::Sgd { momentum, nesterov, weight_decay } => {
            sgd_momentum_update(range, &SgdMomentumUpdate { momentum, nesterov, weight_decay })
        }
        UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled, amsgrad } => {
            let rule = AdamUpdate { beta1, beta2, epsilon, weight_decay, decoupled, missed_steps };
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
