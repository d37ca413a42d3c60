use crate::kernels::{Launch, constant_bool, files, grid_of, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

/// Rows and classes, and what a row's target is.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Rows of the batch.
    pub rows: usize,
    /// Classes.
    pub classes: usize,
    /// The share of the target that all classes have together.
    pub smoothing: f64,
    /// Whether classes have weights.
    pub weighted: bool,
}

impl Target {
    /// Loops over the classes, at most: one more where all of them have a part of the target.
    pub(super) fn passes(&self) -> usize {
        if self.smoothing > 0.0 { 4 } else { 3 }
    }
}

params! {
    pub(super) struct Params {
        rows: u32,
        classes: u32,
        keep: f32,
        pixel_set: f32,
    }
}

impl Params {
    pub(super) fn new(target: Target) -> Self {
        Params {
            rows: index(target.rows),
            classes: index(target.classes),
            keep: (1.0 - target.smoothing) as f32,
            pixel_set: (target.smoothing / target.classes as f64) as f32,
        }
    }
}

/// The loss of each row. Buffers: logits, labels, class weights (any
/// buffer to read, if there are none), loss.
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
