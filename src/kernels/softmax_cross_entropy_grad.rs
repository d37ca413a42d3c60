use super::softmax_cross_entropy::{Params, Target};
use super::{BITS, CLASS_WEIGHT, GRID, Kernel, Launch, SCALARS, SOFTMAX, constant_bool, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "softmax_cross_entropy_grad",
    body: include_str!("../../shaders/softmax_cross_entropy_grad.wgsl"),
    snippets: &[&SOFTMAX, &SCALARS, &GRID, &BITS, &CLASS_WEIGHT],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::Read), (5, Access::ReadWrite)],
    params: super::softmax_cross_entropy::FIELDS,
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 64;

/// The gradient of the mean loss. Buffers: logits, labels, class weights
/// (any buffer to read, if there are none), dlogits.
pub fn softmax_cross_entropy_grad(target: Target) -> Launch {
    let mut launch = Launch::new(&KERNEL, &Params::new(target), WORKGROUP, grid_of(target.rows, WORKGROUP))
        .flops((target.rows * target.classes * 4) as u64)
        .rounds(target.passes() * target.classes + if target.weighted { target.rows } else { 0 });
    launch.declarations.push(constant_bool("WEIGHTED", target.weighted));
    launch
}
