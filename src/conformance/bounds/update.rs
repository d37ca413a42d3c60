//! Bounds of updates: a few half-ulps of every term, propagated through the update rule.

use crate::conformance::case::{InitialTensors, Update};
use crate::conformance::compare::HALF_ULP;
use crate::graph::{Clip, StepScalars, UpdateRule};

/// The bounds of the weights and of each state tensor of parameter `number`. `before` contains the tensors of
/// all parameters, because the clipped norm depends on all gradients.
pub(in crate::conformance) fn update_bounds(
    update: &Update,
    number: usize,
    before: &[InitialTensors],
    step: &StepScalars,
) -> Vec<Vec<f64>> {
    let tensors = &before[number];
    let magnitude = |bits: u32| f64::from(f32::from_bits(bits)).abs();
    let (clip, relative_gradient_error) = clipping(update, before);
    let [rate_factor, decay_factor] = update.factors(number);
    let rule = update.rule.scale_decay(decay_factor);
    let mut bounds = vec![Vec::new(); 1 + tensors.state.len()];
    for i in 0..tensors.weights.len() {
        let (corrections, correction_half_ulps) = corrections(&rule, step, tensors.missed_steps[i]);
        let learning_rate = f64::from(step.learning_rate) * rate_factor;
        let rates = Rates { learning_rate, corrections, correction_half_ulps };
        let state: Vec<f64> = tensors.state.iter().map(|s| magnitude(s[i])).collect();
        let element = Element {
            weight: magnitude(tensors.weights[i]),
            gradient: clip(magnitude(tensors.gradient[i])),
            relative_gradient_error,
            state: &state,
        };
        let element_bounds = element_bounds(&rule, &rates, &element);
        bounds.iter_mut().zip(element_bounds).for_each(|(all, bound)| all.push(bound));
    }
    bounds
}

/// Returns Adam's bias corrections of an element that missed this many steps, and the half-ulps of each.
fn corrections(rule: &UpdateRule, step: &StepScalars, missed: u32) -> ([f64; 2], f64) {
    match *rule {
        UpdateRule::Adam { beta1, beta2, .. } if missed != 0 => {
            let trained = step.step.wrapping_sub(missed) + 1;
            // Each power that is combined adds one half-ulp, and three to that of a power itself.
            let half_ulps = f64::from(trained.count_ones()) + 3.0;
            ([beta1, beta2].map(|beta| 1.0 - beta.powf(trained.into())), half_ulps)
        }
        _ => ([step.correction1.into(), step.correction2.into()], 0.0),
    }
}

/// Returns a function that clips a gradient element, and the relative error of clipped and accumulated
/// gradients.
fn clipping(update: &Update, all: &[InitialTensors]) -> (impl Fn(f64) -> f64, f64) {
    let mut squares = 0.0;
    let mut count = 0;
    for (number, before) in all.iter().enumerate().filter(|(n, _)| !update.excluded.contains(n)) {
        count += update.sizes[number];
        for (i, &bits) in before.gradient.iter().enumerate() {
            if update.clips_over_all() || !before.mask.is_frozen(i) {
                squares += f64::from(f32::from_bits(bits)).powi(2);
            }
        }
    }
    let clip = update.clip;
    let clipped = move |g: f64| match clip {
        None => g,
        Some(Clip::Value { limit }) => g.min(limit),
        Some(Clip::Norm { max, .. }) => g * (max / (squares.sqrt() + Clip::EPSILON)).min(1.0),
    };
    let clip_half_ulps = match clip {
        None => 0.0,
        Some(Clip::Value { .. }) => 1.0,
        // Half-ulps of the sum of squares in any order, its square root, a division and a multiplication.
        Some(Clip::Norm { .. }) => (count + 12) as f64,
    };
    let sum_half_ulps = if update.accumulate { 3.0 } else { 0.0 };
    (clipped, (clip_half_ulps + sum_half_ulps) * HALF_ULP)
}

/// Magnitudes of one element before the update.
struct Element<'a> {
    weight: f64,
    /// Magnitude of the gradient after clipping.
    gradient: f64,
    relative_gradient_error: f64,
    state: &'a [f64],
}

/// The scalars of the step.
struct Rates {
    learning_rate: f64,
    /// Adam's bias corrections.
    corrections: [f64; 2],
    /// Half-ulps of each correction.
    correction_half_ulps: f64,
}

/// The bounds of the weight and of each state element.
///
/// The update divides by the second moments, so a lower limit of each is needed: `low` is the decayed old
/// moment alone, because gradient and weight decay may cancel.
fn element_bounds(rule: &UpdateRule, rates: &Rates, e: &Element) -> Vec<f64> {
    let lr = rates.learning_rate;
    let coupled_decay =
        if matches!(rule, UpdateRule::Adam { decoupled: true, .. }) { 0.0 } else { rule.weight_decay() };
    let g = e.gradient + coupled_decay * e.weight;
    let g_error = e.relative_gradient_error * e.gradient;
    match *rule {
        UpdateRule::Sgd { momentum, .. } => {
            let buffer = momentum * e.state.first().copied().unwrap_or(0.0) + g;
            // The largest possible step is that of Nesterov momentum; without Nesterov momentum, the step is
            // smaller.
            let step = g + momentum * buffer;
            let step = if e.state.is_empty() { g } else { step.max(buffer) };
            // One half-ulp for each hyper-parameter, product and sum, and one of margin.
            let weight = HALF_ULP * (2.0 * e.weight + 8.0 * lr * step) + 2.0 * lr * g_error;
            vec![weight, 5.0 * HALF_ULP * buffer + g_error]
        }
        UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled, amsgrad } => {
            let m = beta1 * e.state[0] + (1.0 - beta1) * g;
            let low = beta2 * e.state[1];
            let v = low + (1.0 - beta2) * g * g;
            let m_error = 5.0 * HALF_ULP * m + (1.0 - beta1) * g_error;
            let v_error = 8.0 * HALF_ULP * v + 2.0 * (1.0 - beta2) * g * g_error;
            // The maximum of v is at least its old value, and its error is at most that of v.
            let low = if amsgrad { low.max(e.state[2]) } else { low };
            let [c1, c2] = rates.corrections;
            let root = (low / c2).sqrt() + epsilon;
            // d(1/root)/dv = -1 / (2 root^2 sqrt(v c2)). The root, two divisions and the products have 16
            // half-ulps. The error of c2 counts half, because of the root.
            let root_error = v_error / (2.0 * (low * c2).sqrt()) / root;
            let half_ulps = 16.0 + 1.5 * rates.correction_half_ulps;
            let step = m_error / c1 / root + m / c1 / root * (root_error + half_ulps * HALF_ULP);
            let decay = if decoupled { 3.0 * lr * weight_decay * e.weight } else { 0.0 };
            vec![HALF_ULP * (2.0 * e.weight + decay) + lr * step, m_error, v_error, v_error]
        }
        UpdateRule::RmsProp { alpha, epsilon, momentum, centered, .. } => {
            let mut low = alpha * e.state[0];
            let v = low + (1.0 - alpha) * g * g;
            let v_error = 8.0 * HALF_ULP * v + 2.0 * (1.0 - alpha) * g * g_error;
            let (mut second_error, mut bounds) = (v_error, vec![v_error]);
            if centered {
                let mean = alpha * e.state[1] + (1.0 - alpha) * g;
                let mean_error = 5.0 * HALF_ULP * mean + (1.0 - alpha) * g_error;
                // The data of the cases keep the mean square well above the square of the mean, so that their
                // difference does not cancel.
                low -= mean * mean;
                second_error += 2.0 * mean * mean_error + 3.0 * HALF_ULP * (v + mean * mean);
                bounds.push(mean_error);
            }
            let step = normalized_step(g, g_error, low, second_error, epsilon);
            let buffer = if momentum == 0.0 {
                step
            } else {
                let old = momentum * e.state.last().copied().unwrap_or(0.0);
                let error = step.error + 5.0 * HALF_ULP * (old + step.magnitude);
                bounds.push(error);
                Step { magnitude: old + step.magnitude, error }
            };
            bounds.insert(0, weight_bound(e.weight, lr, &buffer));
            bounds
        }
        UpdateRule::Adagrad { epsilon, .. } => {
            let sum = e.state[0] + g * g;
            let sum_error = 8.0 * HALF_ULP * sum + 2.0 * g * g_error;
            let step = normalized_step(g, g_error, e.state[0], sum_error, epsilon);
            vec![weight_bound(e.weight, lr, &step), sum_error]
        }
    }
}

/// An update step, before multiplication by the learning rate.
struct Step {
    magnitude: f64,
    error: f64,
}

/// `g / (sqrt(second) + epsilon)` for a second moment of at least `low` with error `second_error`, as in
/// Adam.
fn normalized_step(g: f64, g_error: f64, low: f64, second_error: f64, epsilon: f64) -> Step {
    let root = low.sqrt() + epsilon;
    let root_error = second_error / (2.0 * low.sqrt()) / root;
    let magnitude = g / root;
    Step { magnitude, error: g_error / root + magnitude * (root_error + 16.0 * HALF_ULP) }
}

/// The bound of `weight - lr * step`.
fn weight_bound(weight: f64, lr: f64, step: &Step) -> f64 {
    HALF_ULP * (2.0 * weight + 4.0 * lr * step.magnitude) + lr * step.error
}
