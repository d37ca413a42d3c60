use super::row::launch_rows;
use crate::kernels::{Launch, constant_bool, files, to_u32};
use crate::wgsl::params;

/// Shape of the logits, and definition of the target distribution.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Number of rows (examples).
    pub rows: usize,
    /// Number of classes.
    pub classes: usize,
    /// Label smoothing: the share of the target that is distributed over all classes.
    pub smoothing: f64,
    /// Whether class weights are bound.
    pub weighted: bool,
}

impl Target {
    /// Maximum number of times that one invocation loops over the classes; label smoothing adds one loop.
    pub(super) fn passes(&self) -> usize {
        if self.smoothing > 0.0 { 4 } else { 3 }
    }
}

params! {
    pub(super) struct Params {
        rows: u32,
        classes: u32,
        label_share: f32,
        class_share: f32,
    }
}

impl Params {
    pub(super) fn new(target: Target) -> Self {
        Params {
            rows: to_u32(target.rows),
            classes: to_u32(target.classes),
            label_share: (1.0 - target.smoothing) as f32,
            class_share: (target.smoothing / target.classes as f64) as f32,
        }
    }
}

/// Softmax cross-entropy of each row. Buffers: logits, labels, class weights (any readable buffer if there
/// are none), loss.
pub fn softmax_cross_entropy(target: Target, max_iterations: usize) -> Launch {
    let sizes = [target.rows, target.classes, 0];
    let params = Params::new(target);
    let mut launch =
        launch_rows(&files::SOFTMAX_CROSS_ENTROPY, &params, sizes, target.passes(), max_iterations)
            .flops((target.rows * target.classes * 4) as u64);
    launch.declarations.push(constant_bool("WEIGHTED", target.weighted));
    launch
}
