use crate::kernels::{Launch, constant_bool, files, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        classes: u32,
    }
}

/// Where the metrics read the predicted class of a row from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// The logits: one invocation searches a whole row.
    Logits,
    /// The results of [`super::predicted_class()`].
    Stored,
}

/// Computes the mean loss and updates the running sums; `classes` is 0 if there are no labels. Buffers: loss,
/// logits or predictions, labels, class weights, mean, sums. Any readable buffer may be bound in place of
/// absent logits, labels or class weights.
pub fn metrics(rows: usize, classes: usize, weighted: bool, prediction: Prediction) -> Launch {
    let of_row = if prediction == Prediction::Logits { 1 + classes } else { 1 };
    let params = Params { rows: to_u32(rows), classes: to_u32(classes) };
    let mut launch = Launch::new(&files::METRICS, &params, WORKGROUP, [1, 1, 1])
        .flops((rows * classes) as u64)
        .iterations(rows.div_ceil(WORKGROUP as usize) * of_row + WORKGROUP as usize);
    launch.snippets.push(match prediction {
        Prediction::Logits => &files::PREDICTION_OF_LOGITS,
        Prediction::Stored => &files::PREDICTION_STORED,
    });
    launch.declarations.push(constant_bool("COUNTED", classes > 0));
    launch.declarations.push(constant_bool("WEIGHTED", weighted));
    launch
}
