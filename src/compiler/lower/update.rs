//! Masked updates, and the accumulation and clipping of gradients before them.

use super::{Builder, LoweredDispatch, Resource};
use crate::compiler::ir::Operation;
use crate::compiler::memory::Layout;
use crate::error::Result;
use crate::graph::{Clip, Op, ParameterId, Target, UpdateRule};
use crate::kernels::{
    AdamUpdate, Launch, MAX_RANGES, RmsPropUpdate, SgdMomentumUpdate, UpdateRange, UpdateRanges,
    accumulate as accumulate_range, adagrad_update, adam_update, amsgrad_update, clip_scale, gradient_norm,
    norm_parts, rmsprop_centered_momentum_update, rmsprop_centered_update, rmsprop_momentum_update,
    rmsprop_update, sgd_momentum_update, sgd_update,
};
use std::collections::BTreeMap;
use std::ops::Range;

/// Lowers an update to one dispatch per chunk of the arenas, or several if the chunk has more than
/// [`MAX_RANGES`] ranges.
pub(super) fn update(b: &mut Builder, op: &Operation, rule: &UpdateRule, targets: &[Target]) -> Result<()> {
    let clip = b.graph.nodes().iter().find_map(|node| match &node.op {
        Op::Clip(clip, clipped) => Some((*clip, clipped.as_slice())),
        _ => None,
    });
    let missed_steps = b.settings.missed_steps && matches!(rule, UpdateRule::Adam { .. });
    let ranges = update_ranges(b, rule, targets, clip.map_or(&[], |(_, clipped)| clipped));
    for of_chunk in ranges.chunk_by(|left, right| left.0 == right.0) {
        let chunk = of_chunk[0].0;
        let ranges: Vec<_> = of_chunk.iter().map(|(_, range)| range.clone()).collect();
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
        for ranges in ranges.chunks(MAX_RANGES) {
            let first_group = b.layout.first_group(chunk);
            let ranges = UpdateRanges { first_group, clip: clip.map(|(clip, _)| clip), ranges };
            b.push(op, launch(rule, &ranges, missed_steps), resources.clone());
        }
    }
    Ok(())
}

/// Returns the ranges of the trainable parameters of an update in the order of the arenas, each with its chunk.
/// Adjacent parameters with the same factors and clipping are one range.
fn update_ranges(
    b: &Builder,
    rule: &UpdateRule,
    targets: &[Target],
    clipped: &[ParameterId],
) -> Vec<(usize, UpdateRange)> {
    let trainable = targets.iter().filter(|t| !b.fully_frozen[t.parameter.0]);
    let mut targets: Vec<_> = trainable.map(|t| (b.layout.ranges()[t.parameter.0], t)).collect();
    targets.sort_by_key(|(range, _)| (range.chunk, range.first));
    let mut ranges: Vec<(usize, UpdateRange)> = Vec::new();
    for (range, target) in targets {
        let next = UpdateRange {
            first: range.first,
            elements: Layout::padded_len(&range),
            rate_scale: target.learning_rate,
            weight_decay: rule.scale_decay(target.weight_decay).weight_decay(),
            clipped: clipped.contains(&target.parameter),
        };
        let continues = |(chunk, before): &&mut (usize, UpdateRange)| {
            *chunk == range.chunk
                && UpdateRange { first: next.first, elements: next.elements, ..before.clone() } == next
                && before.first + before.elements == next.first
        };
        match ranges.last_mut().filter(continues) {
            Some((_, before)) => before.elements += next.elements,
            None => ranges.push((range.chunk, next)),
        }
    }
    ranges
}

/// Lowers gradient accumulation to one dispatch per tensor, because the padding between tensors must not be
/// written. Each follows the last dispatch that uses the tensor's gradient, so that ranks can exchange it while the
/// others are computed.
pub(super) fn accumulate(b: &mut Builder, op: &Operation, targets: &[ParameterId]) -> Result<()> {
    let before = std::mem::take(&mut b.lowered.dispatches);
    // The accumulations after each number of dispatches.
    let mut after: BTreeMap<usize, Vec<ParameterId>> = BTreeMap::new();
    for (&target, &gradient) in targets.iter().zip(&op.node.inputs) {
        if !b.fully_frozen[target.0] {
            let uses = |dispatch: &LoweredDispatch| b.uses(dispatch, gradient);
            let last = before.iter().rposition(uses).map_or(0, |index| index + 1);
            after.entry(last).or_default().push(target);
        }
    }
    let mut begin = 0;
    let mut before = before.into_iter();
    for (end, targets) in after {
        b.lowered.dispatches.extend(before.by_ref().take(end - begin));
        begin = end;
        for target in targets {
            let range = b.layout.ranges()[target.0];
            let resources = vec![Resource::Gradients(range.chunk), Resource::Accumulated(range.chunk)];
            b.push(op, accumulate_range(range.first..range.first + range.len), resources);
            b.lowered.accumulated.push((target, b.lowered.dispatches.len()));
        }
    }
    b.lowered.dispatches.extend(before);
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

/// Returns the kernel launch of an update rule. With `missed_steps`, Adam's kernels read how many steps each
/// element missed.
fn launch(rule: &UpdateRule, ranges: &UpdateRanges, missed_steps: bool) -> Launch {
    match *rule {
        UpdateRule::Sgd { momentum: 0.0, .. } => sgd_update(ranges),
        UpdateRule::Sgd { momentum, nesterov, .. } => {
            sgd_momentum_update(ranges, &SgdMomentumUpdate { momentum, nesterov })
        }
        UpdateRule::Adam { beta1, beta2, epsilon, decoupled, amsgrad, .. } => {
            let rule = AdamUpdate { beta1, beta2, epsilon, decoupled, missed_steps };
            if amsgrad { amsgrad_update(ranges, &rule) } else { adam_update(ranges, &rule) }
        }
        UpdateRule::RmsProp { alpha, epsilon, momentum, centered, .. } => {
            let rule = RmsPropUpdate { alpha, epsilon, momentum };
            match (centered, momentum != 0.0) {
                (false, false) => rmsprop_update(ranges, &rule),
                (false, true) => rmsprop_momentum_update(ranges, &rule),
                (true, false) => rmsprop_centered_update(ranges, &rule),
                (true, true) => rmsprop_centered_momentum_update(ranges, &rule),
            }
        }
        UpdateRule::Adagrad { epsilon, .. } => adagrad_update(ranges, epsilon),
    }
}
