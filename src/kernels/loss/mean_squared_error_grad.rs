use crate::kernels::{Launch, files, grid_of, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        per_example: u32,
    }
}

/// Gradient of the mean squared error over all valid elements, alone. Buffers: y, targets, dy.
pub fn mean_squared_error_grad(rows: usize, per_example: usize) -> Launch {
    let params = Params { rows: to_u32(rows), per_example: to_u32(per_example) };
    Launch::new(&files::MEAN_SQUARED_ERROR_GRAD, &params, WORKGROUP, grid_of(rows * per_example, WORKGROUP))
        .flops(3 * (rows * per_example) as u64)
}
