use crate::kernels::update::range::UpdateRange;
use crate::kernels::{Launch, files};
use crate::wgsl::params;

params! {
    struct Rule {
        rate_scale: f32,
        weight_decay: f32,
        epsilon: f32,
    }
}

/// Adagrad over a range of an arena. Buffers: gradients, mask, sums, weights, sum of squares.
pub fn adagrad_update(range: &UpdateRange, epsilon: f64, weight_decay: f64) -> Launch {
    let rule = Rule {
        rate_scale: range.rate_scale as f32,
        weight_decay: weight_decay as f32,
        epsilon: epsilon as f32,
    };
    range.launch(&files::ADAGRAD_UPDATE, &rule, 8)
}
