use crate::kernels::update::range::UpdateRange;
use crate::kernels::{Launch, files};
use crate::wgsl::params;

params! {
    struct Rule {
        rate_scale: f32,
        weight_decay: f32,
    }
}

/// Plain SGD over a range of an arena. Buffers: gradients, mask, sums, weights.
pub fn sgd_update(range: &UpdateRange, weight_decay: f64) -> Launch {
    let rule = Rule { rate_scale: range.rate_scale as f32, weight_decay: weight_decay as f32 };
    range.launch(&files::SGD_UPDATE, &rule, 2)
}
