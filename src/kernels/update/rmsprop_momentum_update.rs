use super::rmsprop_update::launch;
use crate::kernels::update::range::UpdateRange;
use crate::kernels::update::rmsprop_update::RmsPropUpdate;
use crate::kernels::{Launch, files};

/// RMSprop with momentum over a range of an arena's elements. Buffers: gradients, mask, sums, weights, mean square,
/// momentum.
pub fn rmsprop_momentum_update(range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    launch(&files::RMSPROP_MOMENTUM_UPDATE, range, rule)
}
