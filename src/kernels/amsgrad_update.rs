use super::adam_update::{AdamUpdate, FIELDS, Params, numbers};
use super::{GRID, Kernel, Launch, SCALARS, UPDATE, UpdateRange};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "amsgrad_update",
    body: include_str!("../../shaders/amsgrad_update.wgsl"),
    snippets: &[&UPDATE, &SCALARS, &GRID],
    bindings: &[(10, Access::ReadWrite), (11, Access::ReadWrite), (12, Access::ReadWrite)],
    params: FIELDS,
    params_bytes: size_of::<Params>(),
};

/// AMSGrad over a range of an arena's elements. Buffers: gradients, mask, sums, weights, m, v, largest v.
pub fn amsgrad_update(range: &UpdateRange, rule: &AdamUpdate) -> Launch {
    range.launch(&KERNEL, &numbers(range, rule), 15)
}
