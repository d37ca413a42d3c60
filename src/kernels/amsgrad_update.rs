use super::adam_update::{AdamUpdate, FIELDS, Params, params};
use super::{ELEMENTWISE_WORKGROUP, GRID, Kernel, Launch, SCALARS, UPDATE, UpdateRange, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "amsgrad_update",
    body: include_str!("../../shaders/amsgrad_update.wgsl"),
    snippets: &[&UPDATE, &SCALARS, &GRID],
    bindings: &[(6, Access::ReadWrite), (7, Access::ReadWrite), (8, Access::ReadWrite)],
    params: FIELDS,
    params_bytes: size_of::<Params>(),
};

/// AMSGrad over a range of an arena's elements. Buffers: mask, gradients, sums, weights, m, v, largest v.
pub fn amsgrad_update(range: &UpdateRange, rule: &AdamUpdate) -> Launch {
    let groups = grid_of(range.elements / 4, ELEMENTWISE_WORKGROUP);
    Launch::new(&KERNEL, &params(range, rule), ELEMENTWISE_WORKGROUP, groups)
        .flops(15 * range.elements as u64)
}
