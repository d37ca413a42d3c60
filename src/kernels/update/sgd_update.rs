use crate::kernels::update::ranges::UpdateRanges;
use crate::kernels::{Launch, files};

/// Plain SGD over ranges of an arena. Buffers: gradients, mask, sums, weights.
pub fn sgd_update(ranges: &UpdateRanges) -> Launch {
    ranges.launch(&files::SGD_UPDATE, 2)
}
