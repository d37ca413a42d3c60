use super::row::launch_rows;
use super::softmax_cross_entropy::{Params, Target};
use crate::kernels::{Launch, constant_bool, files};

/// Gradient of the mean softmax cross-entropy. Buffers: logits, labels, class weights (any readable buffer if
/// there are none), dlogits.
pub fn softmax_cross_entropy_grad(target: Target, max_iterations: usize) -> Launch {
    // With class weights, the weights of all labels are added as well.
    let sizes = [target.rows, target.classes, if target.weighted { target.rows } else { 0 }];
    let params = Params::new(target);
    let mut launch =
        launch_rows(&files::SOFTMAX_CROSS_ENTROPY_GRAD, &params, sizes, target.passes(), max_iterations)
            .flops((target.rows * target.classes * 4) as u64);
    launch.declarations.push(constant_bool("WEIGHTED", target.weighted));
    launch
}
