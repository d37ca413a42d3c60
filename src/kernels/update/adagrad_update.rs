use crate::kernels::update::ranges::UpdateRanges;
use crate::kernels::{Launch, files};
use crate::wgsl::params;

params! {
    struct Rule {
        epsilon: f32,
    }
}

/// Adagrad over ranges of an arena. Buffers: gradients, mask, sums, weights, sum of squares.
pub fn adagrad_update(ranges: &UpdateRanges, epsilon: f64) -> Launch {
    ranges.launch(&files::ADAGRAD_UPDATE, 8).more_params(&Rule { epsilon: epsilon as f32 })
}
