use crate::kernels::{Launch, files, grid_of, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        classes: u32,
    }
}

/// y = exp(x) / sum(exp(x)) of each row. Buffers: x, y.
pub fn softmax(rows: usize, classes: usize) -> Launch {
    let params = Params { rows: to_u32(rows), classes: to_u32(classes) };
    Launch::new(&files::SOFTMAX, &params, WORKGROUP, grid_of(rows, WORKGROUP))
        .flops(4 * (rows * classes) as u64)
        .iterations(3 * classes)
}
