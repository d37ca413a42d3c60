use crate::kernels::{Launch, constant_bool, files, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        classes: u32,
    }
}

/// Computes the mean loss and updates the running sums; `classes` is 0 if there are no labels. Buffers: loss,
/// logits, labels, class weights, mean, sums. Any readable buffer may be bound in place of absent logits,
/// labels or class weights.
pub fn metrics(rows: usize, classes: usize, weighted: bool) -> Launch {
    let params = Params { rows: to_u32(rows), classes: to_u32(classes) };
    let mut launch = Launch::new(&files::METRICS, &params, WORKGROUP, [1, 1, 1])
        .flops((rows * classes) as u64)
        .iterations(rows.div_ceil(WORKGROUP as usize) * (1 + classes) + WORKGROUP as usize);
    launch.declarations.push(constant_bool("COUNTED", classes > 0));
    launch.declarations.push(constant_bool("WEIGHTED", weighted));
    launch
}
