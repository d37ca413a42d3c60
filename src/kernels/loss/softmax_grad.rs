use crate::kernels::{Launch, files, grid_of, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        classes: u32,
    }
}

/// y * (dy - sum(dy * y)) of each row. Buffers: y, dy, dx.
pub fn softmax_grad(rows: usize, classes: usize) -> Launch {
    let params = Params { rows: index(rows), classes: index(classes) };
    Launch::new(&files::SOFTMAX_GRAD, &params, WORKGROUP, grid_of(rows, WORKGROUP))
        .flops(4 * (rows * classes) as u64)
        .iterations(3 * classes)
}
