use super::row::launch_rows;
use crate::kernels::{Launch, files, to_u32};
use crate::wgsl::params;

params! {
    struct Params {
        rows: u32,
        classes: u32,
    }
}

/// y = exp(x) / sum(exp(x)) of each row. Buffers: x, y.
pub fn softmax(rows: usize, classes: usize, max_iterations: usize) -> Launch {
    let params = Params { rows: to_u32(rows), classes: to_u32(classes) };
    launch_rows(&files::SOFTMAX, &params, [rows, classes], 3, max_iterations)
        .flops(4 * (rows * classes) as u64)
}
