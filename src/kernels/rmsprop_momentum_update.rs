use super::rmsprop_update::{FIELDS, Params, RmsPropUpdate, launch};
use super::{GRID, Kernel, Launch, RMSPROP, SCALARS, UPDATE, UpdateRange};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "rmsprop_momentum_update",
    body: include_str!("../../shaders/rmsprop_momentum_update.wgsl"),
    snippets: &[&RMSPROP, &UPDATE, &SCALARS, &GRID],
    bindings: &[(11, Access::ReadWrite)],
    params: FIELDS,
    params_bytes: size_of::<Params>(),
};

/// RMSprop with momentum over a range of an arena's elements. Buffers: gradients, mask, sums, weights, mean square,
/// momentum.
pub fn rmsprop_momentum_update(range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    launch(&KERNEL, range, rule)
}
