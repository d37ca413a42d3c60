use crate::kernels::{Launch, files, grid_of, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        per_row: u32,
    }
}

/// The gradient of the mean. Buffers: y, targets, dy.
pub fn mean_squared_error_grad(rows: usize, per_row: usize) -> Launch {
    let params = Params { rows: index(rows), per_row: index(per_row) };
    Launch::new(&files::MEAN_SQUARED_ERROR_GRAD, &params, WORKGROUP, grid_of(rows * per_row, WORKGROUP))
        .flops(3 * (rows * per_row) as u64)
}
