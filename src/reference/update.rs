//! The masked update.

use crate::graph::{StepScalars, UpdateRule};
use crate::mask::Mask;

/// A rule's numbers and the step's, in f64.
pub(super) enum Hyper {
    Sgd { lr: f64, momentum: f64, nesterov: bool, decay: f64 },
    Adam { lr: f64, beta1: f64, beta2: f64, epsilon: f64, decay: f64, decoupled: bool, corrections: [f64; 2] },
}

impl Hyper {
    pub fn new(rule: &UpdateRule, step: &StepScalars) -> Self {
        let lr = f64::from(step.learning_rate);
        match *rule {
            UpdateRule::Sgd { momentum, nesterov, weight_decay } => {
                Hyper::Sgd { lr, momentum, nesterov, decay: weight_decay }
            }
            UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled } => Hyper::Adam {
                lr,
                beta1,
                beta2,
                epsilon,
                decay: weight_decay,
                decoupled,
                corrections: [step.correction1.into(), step.correction2.into()],
            },
        }
    }
}

/// Without decay nothing is added, so that an infinite weight does not become NaN by 0 times infinity.
fn decayed(decay: f64, w: f64) -> f64 {
    if decay == 0.0 { 0.0 } else { decay * w }
}

/// Updates the elements that are not frozen, as [`UpdateRule`] says; of a frozen one nothing is read or written.
/// `state` has the rule's slots, each as long as the weights.
pub(super) fn masked(
    hyper: &Hyper,
    gradient: &[f64],
    mask: &Mask,
    weights: &mut [f64],
    state: &mut [Vec<f64>],
) {
    for index in (0..weights.len()).filter(|&index| !mask.is_frozen(index)) {
        let w = &mut weights[index];
        let mut g = gradient[index];
        match (hyper, &mut *state) {
            (&Hyper::Sgd { lr, momentum, nesterov, decay }, slots) => {
                g += decayed(decay, *w);
                // Without a slot the momentum is 0, and the step is the gradient for Nesterov, too.
                let step = match slots.first_mut() {
                    None => g,
                    Some(buffer) => {
                        buffer[index] = momentum * buffer[index] + g;
                        if nesterov { g + momentum * buffer[index] } else { buffer[index] }
                    }
                };
                *w -= lr * step;
            }
            (Hyper::Adam { lr, beta1, beta2, epsilon, decay, decoupled, corrections }, [m, v]) => {
                if *decoupled {
                    *w -= lr * decayed(*decay, *w);
                } else {
                    g += decayed(*decay, *w);
                }
                m[index] = beta1 * m[index] + (1.0 - beta1) * g;
                v[index] = beta2 * v[index] + (1.0 - beta2) * g * g;
                let (m_hat, v_hat) = (m[index] / corrections[0], v[index] / corrections[1]);
                *w -= lr * m_hat / (v_hat.sqrt() + epsilon);
            }
            // `Reference::new` makes two slots for Adam.
            (Hyper::Adam { .. }, _) => {}
        }
    }
}
