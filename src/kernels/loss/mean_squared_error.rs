use crate::kernels::{Launch, files, grid, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        per_row: u32,
        inverse: f32,
    }
}

/// The mean of each row's squared differences. Buffers: y, targets, loss.
pub fn mean_squared_error(rows: usize, per_row: usize) -> Launch {
    let params =
        Params { rows: index(rows), per_row: index(per_row), inverse: (1.0 / per_row as f64) as f32 };
    Launch::new(&files::MEAN_SQUARED_ERROR, &params, WORKGROUP, grid(rows, 1))
        .flops(3 * (rows * per_row) as u64)
        .iterations(per_row.div_ceil(WORKGROUP as usize) + WORKGROUP as usize)
}
