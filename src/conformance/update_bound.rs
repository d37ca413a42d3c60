//! How far an update may be off: a few half-ulps of every term, as it goes through the rule.

use super::bound::HALF_ULP;
use crate::graph::UpdateRule;

/// One element before the update: sizes, without signs.
pub(super) struct Element<'a> {
    pub w: f64,
    /// Its gradient, clipped.
    pub g: f64,
    /// How far that may be off, as a share of it.
    pub of_g: f64,
    pub state: &'a [f64],
}

/// The step's numbers.
pub(super) struct Rates {
    pub lr: f64,
    pub corrections: [f64; 2],
}

/// Bounds of the weight and of each state element.
pub(super) fn of_element(rule: &UpdateRule, rates: &Rates, e: &Element) -> Vec<f64> {
    let lr = rates.lr;
    let coupled =
        if matches!(rule, UpdateRule::Adam { decoupled: true, .. }) { 0.0 } else { rule.weight_decay() };
    let g = e.g + coupled * e.w;
    let brought = e.of_g * e.g;
    match *rule {
        UpdateRule::Sgd { momentum, .. } => {
            let buffer = momentum * e.state.first().copied().unwrap_or(0.0) + g;
            // Nesterov's step is no larger than this; the others' are smaller.
            let step = g + momentum * buffer;
            let step = if e.state.is_empty() { g } else { step.max(buffer) };
            // One half-ulp for each of: the hyper-parameters, their products, the sums; and one to spare.
            let weight = HALF_ULP * (2.0 * e.w + 8.0 * lr * step) + 2.0 * lr * brought;
            vec![weight, 5.0 * HALF_ULP * buffer + brought]
        }
        UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled, amsgrad } => {
            let m = beta1 * e.state[0] + (1.0 - beta1) * g;
            // What v is at least, since g may cancel: what is left of the old one.
            let low = beta2 * e.state[1];
            let v = low + (1.0 - beta2) * g * g;
            let of_m = 5.0 * HALF_ULP * m + (1.0 - beta1) * brought;
            let of_v = 8.0 * HALF_ULP * v + 2.0 * (1.0 - beta2) * g * brought;
            // The largest v so far is no smaller than the old one, and off by no more than v.
            let low = if amsgrad { low.max(e.state[2]) } else { low };
            let [c1, c2] = rates.corrections;
            let root = (low / c2).sqrt() + epsilon;
            // d(1/root)/dv = -1 / (2 root^2 sqrt(v c2)); root, two divisions and the products: 16 half-ulps.
            let of_root = of_v / (2.0 * (low * c2).sqrt()) / root;
            let step = of_m / c1 / root + m / c1 / root * (of_root + 16.0 * HALF_ULP);
            let of_decay = if decoupled { 3.0 * lr * weight_decay * e.w } else { 0.0 };
            vec![HALF_ULP * (2.0 * e.w + of_decay) + lr * step, of_m, of_v, of_v]
        }
        UpdateRule::RmsProp { alpha, epsilon, momentum, centered, .. } => {
            let mut low = alpha * e.state[0];
            let v = low + (1.0 - alpha) * g * g;
            let of_v = 8.0 * HALF_ULP * v + 2.0 * (1.0 - alpha) * g * brought;
            let (mut of_second, mut bounds) = (of_v, vec![of_v]);
            if centered {
                let mean = alpha * e.state[1] + (1.0 - alpha) * g;
                let of_mean = 5.0 * HALF_ULP * mean + (1.0 - alpha) * brought;
                // The case's data keep this above 0, so that nothing but rounding is at work.
                low -= mean * mean;
                of_second += 2.0 * mean * of_mean + 3.0 * HALF_ULP * (v + mean * mean);
                bounds.push(of_mean);
            }
            let step = quotient(g, brought, low, of_second, epsilon);
            let buffer = if momentum == 0.0 {
                step
            } else {
                let kept = momentum * e.state.last().copied().unwrap_or(0.0);
                let off = step.off + 5.0 * HALF_ULP * (kept + step.size);
                bounds.push(off);
                Quotient { size: kept + step.size, off }
            };
            bounds.insert(0, weight(e.w, lr, &buffer));
            bounds
        }
        UpdateRule::Adagrad { epsilon, .. } => {
            let sum = e.state[0] + g * g;
            let of_sum = 8.0 * HALF_ULP * sum + 2.0 * g * brought;
            let step = quotient(g, brought, e.state[0], of_sum, epsilon);
            vec![weight(e.w, lr, &step), of_sum]
        }
    }
}

struct Quotient {
    size: f64,
    off: f64,
}

/// `g / (sqrt(second) + epsilon)`, where `second` is at least `low` and off by `of_second`; as in Adam.
fn quotient(g: f64, of_g: f64, low: f64, of_second: f64, epsilon: f64) -> Quotient {
    let root = low.sqrt() + epsilon;
    let of_root = of_second / (2.0 * low.sqrt()) / root;
    let size = g / root;
    Quotient { size, off: of_g / root + size * (of_root + 16.0 * HALF_ULP) }
}

fn weight(w: f64, lr: f64, step: &Quotient) -> f64 {
    HALF_ULP * (2.0 * w + 4.0 * lr * step.size) + lr * step.off
}
