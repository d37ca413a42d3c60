use crate::kernels::{Launch, files, grid, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        per_example: u32,
        inverse: f32,
    }
}

/// Mean squared difference of each row. Buffers: y, targets, loss.
pub fn mean_squared_error(rows: usize, per_example: usize) -> Launch {
    let params = Params {
        rows: to_u32(rows),
        per_example: to_u32(per_example),
        inverse: (1.0 / per_example as f64) as f32,
    };
    Launch::new(&files::MEAN_SQUARED_ERROR, &params, WORKGROUP, grid(rows, 1))
        .flops(3 * (rows * per_example) as u64)
        .iterations(per_example.div_ceil(WORKGROUP as usize) + WORKGROUP as usize)
}
