//! Masked updates, gradient accumulation and clipping.

use crate::graph::{Clip, Graph, Node, ParameterId, StepScalars, Target, UpdateRule};
use crate::mask::Mask;

/// State of gradient clipping within a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Clipping {
    /// Parameters whose gradients are clipped.
    targets: Vec<ParameterId>,
    /// The last measured norm.
    pub norm: f64,
    factor: f64,
    limit: Option<f64>,
}

impl Clipping {
    /// Disables clipping at the beginning of a run; `norm` keeps the norm of the last run.
    pub fn begin(&mut self) {
        self.targets.clear();
    }

    /// Determines the factor `min(1, max / (norm + 1e-6))`, or the limit of clipping by value.
    pub fn measure(
        &mut self,
        clip: Clip,
        targets: &[ParameterId],
        node: &Node,
        values: &[Vec<f64>],
        masks: &[Mask],
    ) {
        self.targets = targets.to_vec();
        match clip {
            Clip::Value { limit } => {
                self.factor = 1.0;
                self.limit = Some(limit);
            }
            Clip::Norm { max, over_all } => {
                let mut squares = 0.0;
                for (target, gradient) in targets.iter().zip(&node.inputs) {
                    for (index, g) in values[gradient.0].iter().enumerate() {
                        if over_all || !masks[target.0].is_frozen(index) {
                            squares += g * g;
                        }
                    }
                }
                self.norm = squares.sqrt();
                // `f64::min` would ignore a NaN norm, which must make the gradients NaN.
                let factor = max / (self.norm + Clip::EPSILON);
                self.factor = if factor > 1.0 { 1.0 } else { factor };
                self.limit = None;
            }
        }
    }

    /// Returns the clipped gradient element `g` of `target`.
    fn clip(&self, target: ParameterId, g: f64) -> f64 {
        if !self.targets.contains(&target) {
            return g;
        }
        match self.limit {
            // A NaN gradient stays NaN: `clamp` propagates it.
            Some(limit) => g.clamp(-limit, limit),
            None => g * self.factor,
        }
    }
}

/// Accumulates gradients: `sum = share*g` for the first batch of an update, `sum += share*g` for the others;
/// then `g = sum`.
pub(super) fn accumulate(
    targets: &[ParameterId],
    node: &Node,
    step: &StepScalars,
    values: &mut [Vec<f64>],
    sums: &mut [Vec<f64>],
) {
    let share = f64::from(step.share);
    for (target, gradient) in targets.iter().zip(&node.inputs) {
        let (sum, g) = (&mut sums[target.0], &mut values[gradient.0]);
        sum.resize(g.len(), 0.0);
        for (sum, g) in sum.iter_mut().zip(g.iter_mut()) {
            *sum = if step.first == 1 { share * *g } else { *sum + share * *g };
            *g = *sum;
        }
    }
}

/// For each parameter, which of its elements are frozen, and how many steps each element missed.
pub(super) struct Frozen<'a> {
    pub masks: &'a [Mask],
    pub missed_steps: &'a [Vec<u32>],
}

/// Updates all targets, in order. Returns whether the result of an element was not finite and not stored.
#[allow(clippy::too_many_arguments)] // The fields of a `Reference`, borrowed separately.
pub(super) fn update_all(
    graph: &Graph,
    node: &Node,
    rule: &UpdateRule,
    targets: &[Target],
    step: &StepScalars,
    clipping: &Clipping,
    values: &mut [Vec<f64>],
    frozen: &Frozen,
    states: &mut [Vec<Vec<f64>>],
) -> bool {
    let mut rejected = false;
    for (target, gradient) in targets.iter().zip(&node.inputs) {
        let id = target.parameter;
        let hyper = Hyper {
            rule: rule.scale_decay(target.weight_decay),
            lr: f64::from(step.learning_rate) * target.learning_rate,
            corrections: [step.correction1.into(), step.correction2.into()],
            step: step.step,
        };
        let parameter = graph.at_parameter(id);
        let gradient: Vec<_> = values[gradient.0].iter().map(|&g| clipping.clip(id, g)).collect();
        let stores_all = step.on_non_finite_continue != 0;
        let (mask, missed) = (&frozen.masks[id.0], &frozen.missed_steps[id.0]);
        let weights = &mut values[parameter.0];
        rejected |= masked(&hyper, &gradient, mask, missed, stores_all, weights, &mut states[id.0]);
    }
    rejected
}

/// Hyper-parameters of one update, in f64.
struct Hyper {
    rule: UpdateRule,
    lr: f64,
    /// Adam's bias corrections of elements that missed no step.
    corrections: [f64; 2],
    /// Index of the step, from 0.
    step: u32,
}

impl Hyper {
    /// Returns Adam's bias corrections of an element that missed this many steps.
    fn corrections(&self, missed: u32, betas: [f64; 2]) -> [f64; 2] {
        if missed == 0 {
            return self.corrections;
        }
        let n = f64::from(self.step.wrapping_sub(missed)) + 1.0;
        betas.map(|beta| 1.0 - beta.powf(n))
    }
}

/// Returns `decay * w`, or 0 if `decay` is 0: `0 * w` would be NaN for an infinite weight.
fn decay_term(decay: f64, w: f64) -> f64 {
    if decay == 0.0 { 0.0 } else { decay * w }
}

/// The maximum of `a` and `b`; NaN if either is NaN.
fn max_or_nan(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// Applies [`UpdateRule`] to the unfrozen elements; frozen elements are neither read nor written. `state` has
/// one vector per slot of the rule, as long as the weights. Unless `stores_all`, an element with a result that
/// is not finite in f32 keeps its weight and state; returns whether there is one.
fn masked(
    hyper: &Hyper,
    gradient: &[f64],
    mask: &Mask,
    missed: &[u32],
    stores_all: bool,
    weights: &mut [f64],
    state: &mut [Vec<f64>],
) -> bool {
    let mut rejected = false;
    for index in (0..weights.len()).filter(|&index| !mask.is_frozen(index)) {
        let (mut w, mut slots) = (weights[index], state.iter().map(|slot| slot[index]).collect::<Vec<_>>());
        update_element(hyper, missed[index], gradient[index], &mut w, &mut slots);
        if !stores_all && slots.iter().chain([&w]).any(|&x| !(x as f32).is_finite()) {
            rejected = true;
            continue;
        }
        weights[index] = w;
        state.iter_mut().zip(slots).for_each(|(slot, new)| slot[index] = new);
    }
    rejected
}

/// Applies [`UpdateRule`] to one element; `state` has its state in the order of the rule's slots.
fn update_element(hyper: &Hyper, missed: u32, gradient: f64, w: &mut f64, state: &mut [f64]) {
    let &Hyper { rule, lr, .. } = hyper;
    let mut g = gradient;
    match rule {
        UpdateRule::Adam { decoupled: true, weight_decay, .. } => *w -= lr * decay_term(weight_decay, *w),
        _ => g += decay_term(rule.weight_decay(), *w),
    }
    let mut slots = state.iter_mut();
    let mut next = || slots.next();
    let step = match rule {
        UpdateRule::Sgd { momentum, nesterov, .. } => match next() {
            // With a momentum of 0 there is no momentum buffer, and the step is the gradient, also if
            // `nesterov` is set.
            None => g,
            Some(buffer) => {
                *buffer = momentum * *buffer + g;
                if nesterov { g + momentum * *buffer } else { *buffer }
            }
        },
        UpdateRule::Adam { beta1, beta2, epsilon, .. } => {
            // Never returns here: `Reference::new` allocates all slots of the rule.
            let (Some(m), Some(v)) = (next(), next()) else { return };
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            let mut second = *v;
            if let Some(v_max) = next() {
                *v_max = max_or_nan(*v_max, second);
                second = *v_max;
            }
            let corrections = hyper.corrections(missed, [beta1, beta2]);
            *m / corrections[0] / ((second / corrections[1]).sqrt() + epsilon)
        }
        UpdateRule::RmsProp { alpha, epsilon, momentum, centered, .. } => {
            let Some(v) = next() else { return };
            *v = alpha * *v + (1.0 - alpha) * g * g;
            let mut second = *v;
            if centered {
                let Some(mean) = next() else { return };
                *mean = alpha * *mean + (1.0 - alpha) * g;
                second = max_or_nan(second - *mean * *mean, 0.0);
            }
            let step = g / (second.sqrt() + epsilon);
            match next() {
                None => step,
                Some(buffer) => {
                    *buffer = momentum * *buffer + step;
                    *buffer
                }
            }
        }
        UpdateRule::Adagrad { epsilon, .. } => {
            let Some(sum) = next() else { return };
            *sum += g * g;
            g / (sum.sqrt() + epsilon)
        }
    };
    *w -= lr * step;
}
