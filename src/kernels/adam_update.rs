use super::{ELEMENTWISE_WORKGROUP, GRID, Kernel, Launch, SCALARS, UPDATE, UpdateRange, grid_of, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "adam_update",
    body: include_str!("../../shaders/adam_update.wgsl"),
    snippets: &[&UPDATE, &SCALARS, &GRID],
    bindings: &[(6, Access::ReadWrite), (7, Access::ReadWrite)],
    params: FIELDS,
    params_bytes: size_of::<Params>(),
};

pub(super) const FIELDS: &[(&str, usize)] = &[
    ("first", std::mem::offset_of!(Params, first)),
    ("quads", std::mem::offset_of!(Params, quads)),
    ("rate_scale", std::mem::offset_of!(Params, rate_scale)),
    ("clip_value", std::mem::offset_of!(Params, clip_value)),
    ("clip_by_norm", std::mem::offset_of!(Params, clip_by_norm)),
    ("weight_decay", std::mem::offset_of!(Params, weight_decay)),
    ("beta1", std::mem::offset_of!(Params, beta1)),
    ("one_minus_beta1", std::mem::offset_of!(Params, one_minus_beta1)),
    ("beta2", std::mem::offset_of!(Params, beta2)),
    ("one_minus_beta2", std::mem::offset_of!(Params, one_minus_beta2)),
    ("epsilon", std::mem::offset_of!(Params, epsilon)),
    ("decoupled", std::mem::offset_of!(Params, decoupled)),
];

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Params {
    first: u32,
    quads: u32,
    rate_scale: f32,
    clip_value: f32,
    clip_by_norm: u32,
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

/// Adam over a range of an arena's elements. Buffers: mask, gradients, sums, weights, m, v.
pub fn adam_update(range: &UpdateRange, rule: &AdamUpdate) -> Launch {
    let groups = grid_of(range.elements / 4, ELEMENTWISE_WORKGROUP);
    Launch::new(&KERNEL, &params(range, rule), ELEMENTWISE_WORKGROUP, groups)
        .flops(14 * range.elements as u64)
}

pub(super) fn params(range: &UpdateRange, rule: &AdamUpdate) -> Params {
    Params {
        first: index(range.first / 4),
        quads: index(range.elements / 4),
        rate_scale: range.rate_scale as f32,
        clip_value: range.clip_value(),
        clip_by_norm: range.clip_by_norm(),
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
