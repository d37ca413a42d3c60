use super::row::launch_rows;
use crate::kernels::{Launch, WgslFile, constant_bool, files, to_u32};
use crate::wgsl::params;

/// Shape of the logits, and definition of the target distribution.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Number of rows (examples).
    pub rows: usize,
    /// Number of classes.
    pub classes: usize,
    /// Label smoothing: the share of the target that is distributed over all classes.
    pub smoothing: f64,
    /// Whether class weights are bound.
    pub weighted: bool,
}

params! {
    struct Params {
        rows: u32,
        classes: u32,
        label_share: f32,
        class_share: f32,
    }
}

impl Params {
    fn new(target: Target) -> Self {
        Params {
            rows: to_u32(target.rows),
            classes: to_u32(target.classes),
            label_share: (1.0 - target.smoothing) as f32,
            class_share: (target.smoothing / target.classes as f64) as f32,
        }
    }
}

/// Softmax cross-entropy of each row, and if `with_gradient` the gradient of its mean. Buffers: logits, labels, class
/// weights (any readable buffer if there are none), loss; with the gradient also the sum of [`label_weight_sum`]
/// (any readable buffer without class weights), dlogits.
///
/// [`label_weight_sum`]: super::label_weight_sum()
pub fn softmax_cross_entropy(target: Target, with_gradient: bool, max_iterations: usize) -> Launch {
    let results = 1 + usize::from(with_gradient);
    let mut launch = launch_target(&files::SOFTMAX_CROSS_ENTROPY, target, max_iterations)
        .flops((results * target.rows * target.classes * 4) as u64);
    launch.snippets.push(if with_gradient {
        &files::CROSS_ENTROPY_GRAD_STORED
    } else {
        &files::CROSS_ENTROPY_GRAD_UNUSED
    });
    launch
}

/// Gradient of the mean softmax cross-entropy alone. Buffers: logits, labels, class weights and the sum of
/// [`label_weight_sum`] (any readable buffer for these two if there are no class weights), dlogits.
///
/// [`label_weight_sum`]: super::label_weight_sum()
pub fn softmax_cross_entropy_grad(target: Target, max_iterations: usize) -> Launch {
    launch_target(&files::SOFTMAX_CROSS_ENTROPY_GRAD, target, max_iterations)
        .flops((target.rows * target.classes * 4) as u64)
}

fn launch_target(kernel: &'static WgslFile, target: Target, max_iterations: usize) -> Launch {
    // Loops over the classes for a loss with its gradient. The loss alone and the gradient alone have fewer, but divide
    // the rows in the same way, so that they have the same bits.
    let passes = if target.smoothing > 0.0 { 5 } else { 3 };
    let sizes = [target.rows, target.classes];
    let mut launch = launch_rows(kernel, &Params::new(target), sizes, passes, max_iterations);
    launch.declarations.push(constant_bool("WEIGHTED", target.weighted));
    launch
}
