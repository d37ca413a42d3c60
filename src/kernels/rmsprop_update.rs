use super::{
    ELEMENTWISE_WORKGROUP, GRID, Kernel, Launch, RMSPROP, SCALARS, UPDATE, UpdateRange, grid_of, index,
};

pub(super) static KERNEL: Kernel = Kernel {
    name: "rmsprop_update",
    body: include_str!("../../shaders/rmsprop_update.wgsl"),
    snippets: &[&RMSPROP, &UPDATE, &SCALARS, &GRID],
    bindings: &[],
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
    ("alpha", std::mem::offset_of!(Params, alpha)),
    ("one_minus_alpha", std::mem::offset_of!(Params, one_minus_alpha)),
    ("epsilon", std::mem::offset_of!(Params, epsilon)),
    ("momentum", std::mem::offset_of!(Params, momentum)),
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
    alpha: f32,
    one_minus_alpha: f32,
    epsilon: f32,
    momentum: f32,
}

/// Constants of RMSprop.
#[derive(Clone, Copy, Debug)]
pub struct RmsPropUpdate {
    /// Decay of the averages.
    pub alpha: f64,
    /// Added to the root.
    pub epsilon: f64,
    /// Share of the last step kept.
    pub momentum: f64,
    /// Coupled decay.
    pub weight_decay: f64,
}

/// RMSprop over a range of an arena's elements. Buffers: mask, gradients, sums, weights, mean square.
pub fn rmsprop_update(range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    launch(&KERNEL, range, rule)
}

pub(super) fn launch(kernel: &'static Kernel, range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    let params = Params {
        first: index(range.first / 4),
        quads: index(range.elements / 4),
        rate_scale: range.rate_scale as f32,
        clip_value: range.clip_value(),
        clip_by_norm: range.clip_by_norm(),
        weight_decay: rule.weight_decay as f32,
        alpha: rule.alpha as f32,
        // In f64: 1 - 0.99 from an f32 loses digits.
        one_minus_alpha: (1.0 - rule.alpha) as f32,
        epsilon: rule.epsilon as f32,
        momentum: rule.momentum as f32,
    };
    let groups = grid_of(range.elements / 4, ELEMENTWISE_WORKGROUP);
    Launch::new(kernel, &params, ELEMENTWISE_WORKGROUP, groups).flops(14 * range.elements as u64)
}
