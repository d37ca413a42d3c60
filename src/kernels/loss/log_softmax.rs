use super::row::launch_rows;
use crate::kernels::{Launch, files, to_u32};
use crate::wgsl::params;

params! {
    struct Params {
        rows: u32,
        classes: u32,
    }
}

/// y = x - log(sum(exp(x))) of each row. Buffers: x, y.
pub fn log_softmax(rows: usize, classes: usize, max_iterations: usize) -> Launch {
    let params = Params { rows: to_u32(rows), classes: to_u32(classes) };
    launch_rows(&files::LOG_SOFTMAX, &params, [rows, classes], 3, max_iterations)
        .flops(4 * (rows * classes) as u64)
}

/// dx = dy - exp(y) * sum(dy) of each row. Buffers: y, dy, dx.
pub fn log_softmax_grad(rows: usize, classes: usize, max_iterations: usize) -> Launch {
    let params = Params { rows: to_u32(rows), classes: to_u32(classes) };
    launch_rows(&files::LOG_SOFTMAX_GRAD, &params, [rows, classes], 2, max_iterations)
        .flops(4 * (rows * classes) as u64)
}
