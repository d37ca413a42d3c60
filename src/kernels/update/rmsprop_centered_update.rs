use super::rmsprop_update::launch;
use crate::kernels::update::range::UpdateRange;
use crate::kernels::update::rmsprop_update::RmsPropUpdate;
use crate::kernels::{Launch, files};

/// Centred RMSprop over a range of an arena's elements. Buffers: gradients, mask, sums, weights, mean square, mean
/// gradient.
pub fn rmsprop_centered_update(range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    launch(&files::RMSPROP_CENTERED_UPDATE, range, rule)
}
