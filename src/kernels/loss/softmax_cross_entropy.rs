use crate::kernels::{Launch, constant_bool, files, grid_of, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

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
pub fn softmax_cross_entropy(target: Target) -> Launch {
    let mut launch = Launch::new(
        &files::SOFTMAX_CROSS_ENTROPY,
        &Params::new(target),
        WORKGROUP,
        grid_of(target.rows, WORKGROUP),
    )
    .flops((target.rows * target.classes * 4) as u64)
    .iterations(target.passes() * target.classes);
    launch.declarations.push(constant_bool("WEIGHTED", target.weighted));
    launch
}
