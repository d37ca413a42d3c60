use super::rmsprop_update::{FIELDS, Params, RmsPropUpdate, launch};
use super::{BITS, GRID, Kernel, Launch, RMSPROP, SCALARS, UPDATE, UpdateRange};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "rmsprop_centered_update",
    body: include_str!("../../shaders/rmsprop_centered_update.wgsl"),
    snippets: &[&RMSPROP, &UPDATE, &SCALARS, &BITS, &GRID],
    bindings: &[(11, Access::ReadWrite)],
    params: FIELDS,
    params_bytes: size_of::<Params>(),
};

/// Centred RMSprop over a range of an arena's elements. Buffers: gradients, mask, sums, weights, mean square, mean
/// gradient.
pub fn rmsprop_centered_update(range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    launch(&KERNEL, range, rule)
}
