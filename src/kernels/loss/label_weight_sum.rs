use crate::kernels::{Launch, files, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 256;

params! {
    struct Params {
        rows: u32,
    }
}

/// Sum of the class weights of the labels of all rows. Buffers: labels, class weights, sum.
pub fn label_weight_sum(rows: usize) -> Launch {
    let params = Params { rows: to_u32(rows) };
    Launch::new(&files::LABEL_WEIGHT_SUM, &params, WORKGROUP, [1, 1, 1])
        .flops(rows as u64)
        .iterations(rows.div_ceil(WORKGROUP as usize) + WORKGROUP as usize)
}
