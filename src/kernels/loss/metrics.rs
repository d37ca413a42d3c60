use crate::kernels::{Launch, constant_bool, files, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

/// Bytes of the running sums.
pub const SUMS_BYTES: u64 = size_of::<Sums>() as u64;

params! {
    /// The running sums.
    pub(in crate::kernels) struct Sums {
        loss: f32,
        correct: u32,
        examples: u32,
        /// 1 after a loss that was not finite.
        non_finite: u32,
        /// The step with that loss.
        non_finite_step: u32,
        weight: f32,
        /// The gradients' norm, and what clips them.
        norm: f32,
        clip_scale: f32,
    }
}

params! {
    struct Params {
        rows: u32,
        classes: u32,
    }
}

/// The mean loss, and the running sums; `classes` is 0 where there are no labels. Buffers: loss, logits, labels, class
/// weights, mean, sums; any buffer to read stands for what there is not.
pub fn metrics(rows: usize, classes: usize, weighted: bool) -> Launch {
    let params = Params { rows: index(rows), classes: index(classes) };
    let mut launch = Launch::new(&files::METRICS, &params, WORKGROUP, [1, 1, 1])
        .flops((rows * classes) as u64)
        .iterations(rows.div_ceil(WORKGROUP as usize) * (1 + classes) + WORKGROUP as usize);
    launch.declarations.push(constant_bool("COUNTED", classes > 0));
    launch.declarations.push(constant_bool("WEIGHTED", weighted));
    launch
}
