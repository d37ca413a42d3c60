use super::update_range::Range;
use super::{GRID, Kernel, Launch, SCALARS, UPDATE, UpdateRange};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "adam_update",
    body: include_str!("../../shaders/adam_update.wgsl"),
    snippets: &[&UPDATE, &SCALARS, &GRID],
    bindings: &[(10, Access::ReadWrite), (11, Access::ReadWrite)],
    params: FIELDS,
    params_bytes: size_of::<Params>(),
};

pub(super) const FIELDS: &[(&str, usize)] = &[
    ("first", std::mem::offset_of!(Params, range.first)),
    ("quads", std::mem::offset_of!(Params, range.quads)),
    ("clip_value", std::mem::offset_of!(Params, range.clip_value)),
    ("clip_by_norm", std::mem::offset_of!(Params, range.clip_by_norm)),
    ("rule.rate_scale", std::mem::offset_of!(Params, rule.rate_scale)),
    ("rule.weight_decay", std::mem::offset_of!(Params, rule.weight_decay)),
    ("rule.beta1", std::mem::offset_of!(Params, rule.beta1)),
    ("rule.one_minus_beta1", std::mem::offset_of!(Params, rule.one_minus_beta1)),
    ("rule.beta2", std::mem::offset_of!(Params, rule.beta2)),
    ("rule.one_minus_beta2", std::mem::offset_of!(Params, rule.one_minus_beta2)),
    ("rule.epsilon", std::mem::offset_of!(Params, rule.epsilon)),
    ("rule.decoupled", std::mem::offset_of!(Params, rule.decoupled)),
];

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Params {
    range: Range,
    rule: Rule,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Rule {
    rate_scale: f32,
    weight_decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    epsilon: f32,
    decoupled: u32,
}

/// Constants of Adam and AdamW.
#[derive(Clone, Copy, Debug)]
pub struct AdamUpdate {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the corrected root.
    pub epsilon: f64,
    /// Decay of the weights.
    pub weight_decay: f64,
    /// Whether it acts on the weight itself (AdamW).
    pub decoupled: bool,
}

/// Adam over a range of an arena's elements. Buffers: gradients, mask, sums, weights, m, v.
pub fn adam_update(range: &UpdateRange, rule: &AdamUpdate) -> Launch {
    range.launch(&KERNEL, &numbers(range, rule), 14)
}

pub(super) fn numbers(range: &UpdateRange, rule: &AdamUpdate) -> Rule {
    Rule {
        rate_scale: range.rate_scale as f32,
        weight_decay: rule.weight_decay as f32,
        beta1: rule.beta1 as f32,
        // In f64: 1 - 0.999 from an f32 loses four digits.
        one_minus_beta1: (1.0 - rule.beta1) as f32,
        beta2: rule.beta2 as f32,
        one_minus_beta2: (1.0 - rule.beta2) as f32,
        epsilon: rule.epsilon as f32,
        decoupled: rule.decoupled.into(),
    }
}
