use crate::kernels::{Launch, files, grid, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        classes: u32,
    }
}

/// Index of the first maximum of each row, for [`Prediction::Stored`](super::Prediction). Buffers: logits,
/// predictions.
pub fn predicted_class(rows: usize, classes: usize) -> Launch {
    let params = Params { rows: to_u32(rows), classes: to_u32(classes) };
    Launch::new(&files::PREDICTED_CLASS, &params, WORKGROUP, grid(rows, 1))
        .flops((rows * classes) as u64)
        .iterations(classes.div_ceil(WORKGROUP as usize) + WORKGROUP as usize)
}
