use super::row::launch_rows;
use crate::kernels::{Launch, WgslFile, files, to_u32};
use crate::wgsl::params;

params! {
    struct Params {
        rows: u32,
        classes: u32,
    }
}

/// Cross-entropy of each row with a target for each class, and if `with_gradient` the gradient of its mean. Buffers:
/// logits, targets, loss; with the gradient also dlogits.
pub fn soft_cross_entropy(rows: usize, classes: usize, with_gradient: bool, max_iterations: usize) -> Launch {
    let mut launch = launch(&files::SOFT_CROSS_ENTROPY, [rows, classes], max_iterations);
    launch.snippets.push(if with_gradient {
        &files::SOFT_TARGETS_GRAD_STORED
    } else {
        &files::SOFT_TARGETS_GRAD_UNUSED
    });
    launch
}

/// Gradient of the mean cross-entropy alone. Buffers: logits, targets, dlogits.
pub fn soft_cross_entropy_grad(rows: usize, classes: usize, max_iterations: usize) -> Launch {
    launch(&files::SOFT_CROSS_ENTROPY_GRAD, [rows, classes], max_iterations)
}

/// The loss alone, the gradient alone and both divide the rows in the same way, so that they have the same bits.
fn launch(kernel: &'static WgslFile, sizes: [usize; 2], max_iterations: usize) -> Launch {
    let [rows, classes] = sizes;
    let params = Params { rows: to_u32(rows), classes: to_u32(classes) };
    launch_rows(kernel, &params, sizes, 5, max_iterations).flops(8 * (rows * classes) as u64)
}
