//! Adam, AdamW and AMSGrad. They share their parameters.

use crate::kernels::update::ranges::UpdateRanges;
use crate::kernels::{Launch, WgslFile, files};
use crate::wgsl::params;

/// Number of powers `beta^(2^k)` in [`Powers`], so that steps are counted up to `2^24 - 1`. Later bias
/// corrections differ from 1 by less than a rounding error, for decay rates up to `1 - 1e-6`.
const POWERS: usize = 24;

params! {
    struct Rule {
        beta1: f32,
        one_minus_beta1: f32,
        beta2: f32,
        one_minus_beta2: f32,
        epsilon: f32,
        decoupled: u32,
    }
}

params! {
    /// `1 - beta^(2^k)` of the first and the second moment, for k = 0, 1, ...: two k in each vector.
    struct Powers {
        powers: [[f32; 4]; POWERS / 2],
    }
}

/// Hyperparameters of Adam and AdamW.
#[derive(Clone, Copy, Debug)]
pub struct AdamUpdate {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Term added to the square root of the corrected second moment.
    pub epsilon: f64,
    /// Whether weight decay is decoupled from the gradient (AdamW).
    pub decoupled: bool,
    /// Whether elements may have missed steps; the kernel then has one more buffer, the missed steps.
    pub missed_steps: bool,
}

/// Adam over ranges of an arena. Buffers: gradients, mask, sums, weights, m, v.
pub fn adam_update(ranges: &UpdateRanges, rule: &AdamUpdate) -> Launch {
    launch(&files::ADAM_UPDATE, ranges, rule, 14)
}

/// AMSGrad over ranges of an arena. Buffers: gradients, mask, sums, weights, m, v, maximum of v.
pub fn amsgrad_update(ranges: &UpdateRanges, rule: &AdamUpdate) -> Launch {
    launch(&files::AMSGRAD_UPDATE, ranges, rule, 15)
}

fn launch(kernel: &'static WgslFile, ranges: &UpdateRanges, rule: &AdamUpdate, flops: u64) -> Launch {
    let mut launch = ranges.launch(kernel, flops).more_params(&rule_params(rule));
    if rule.missed_steps {
        launch = launch.more_params(&powers(rule));
        launch.snippets.push(&files::CORRECTIONS_OF_ELEMENTS);
    } else {
        launch.snippets.push(&files::CORRECTIONS_OF_STEP);
    }
    launch
}

fn powers(rule: &AdamUpdate) -> Powers {
    let mut powers = [[0.0; 4]; POWERS / 2];
    let mut now = [rule.beta1, rule.beta2];
    for pair in powers.as_flattened_mut().chunks_exact_mut(2) {
        pair.copy_from_slice(&now.map(|power| (1.0 - power) as f32));
        now = now.map(|power| power * power);
    }
    Powers { powers }
}

fn rule_params(rule: &AdamUpdate) -> Rule {
    Rule {
        beta1: rule.beta1 as f32,
        // Subtracted in f64: if 0.999 were rounded to f32 first, the difference would lose four digits.
        one_minus_beta1: (1.0 - rule.beta1) as f32,
        beta2: rule.beta2 as f32,
        one_minus_beta2: (1.0 - rule.beta2) as f32,
        epsilon: rule.epsilon as f32,
        decoupled: rule.decoupled.into(),
    }
}
