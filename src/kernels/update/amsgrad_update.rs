use crate::kernels::update::adam_update::{AdamUpdate, numbers};
use crate::kernels::update::range::UpdateRange;
use crate::kernels::{Launch, files};

/// AMSGrad over a range of an arena's elements. Buffers: gradients, mask, sums, weights, m, v, largest v.
pub fn amsgrad_update(range: &UpdateRange, rule: &AdamUpdate) -> Launch {
    range.launch(&files::AMSGRAD_UPDATE, &numbers(range, rule), 15)
}
