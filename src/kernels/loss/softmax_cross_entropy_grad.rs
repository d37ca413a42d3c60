use super::softmax_cross_entropy::Params;
use crate::kernels::loss::softmax_cross_entropy::Target;
use crate::kernels::{Launch, constant_bool, files, grid_of};

const WORKGROUP: u32 = 64;

/// Gradient of the mean softmax cross-entropy. Buffers: logits, labels, class weights (any readable buffer if
/// there are none), dlogits.
pub fn softmax_cross_entropy_grad(target: Target) -> Launch {
    let mut launch = Launch::new(
        &files::SOFTMAX_CROSS_ENTROPY_GRAD,
        &Params::new(target),
        WORKGROUP,
        grid_of(target.rows, WORKGROUP),
    )
    .flops((target.rows * target.classes * 4) as u64)
    .iterations(target.passes() * target.classes + if target.weighted { target.rows } else { 0 });
    launch.declarations.push(constant_bool("WEIGHTED", target.weighted));
    launch
}
