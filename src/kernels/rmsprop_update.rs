use super::update_range::Range;
use super::{GRID, Kernel, Launch, RMSPROP, SCALARS, UPDATE, UpdateRange};

pub(super) static KERNEL: Kernel = Kernel {
    name: "rmsprop_update",
    body: include_str!("../../shaders/rmsprop_update.wgsl"),
    snippets: &[&RMSPROP, &UPDATE, &SCALARS, &GRID],
    bindings: &[],
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
    ("rule.alpha", std::mem::offset_of!(Params, rule.alpha)),
    ("rule.one_minus_alpha", std::mem::offset_of!(Params, rule.one_minus_alpha)),
    ("rule.epsilon", std::mem::offset_of!(Params, rule.epsilon)),
    ("rule.momentum", std::mem::offset_of!(Params, rule.momentum)),
];

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Params {
    range: Range,
    rule: Rule,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Rule {
    rate_scale: f32,
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

/// RMSprop over a range of an arena's elements. Buffers: gradients, mask, sums, weights, mean square.
pub fn rmsprop_update(range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    launch(&KERNEL, range, rule)
}

pub(super) fn launch(kernel: &'static Kernel, range: &UpdateRange, rule: &RmsPropUpdate) -> Launch {
    let rule = Rule {
        rate_scale: range.rate_scale as f32,
        weight_decay: rule.weight_decay as f32,
        alpha: rule.alpha as f32,
        // In f64: 1 - 0.99 from an f32 loses digits.
        one_minus_alpha: (1.0 - rule.alpha) as f32,
        epsilon: rule.epsilon as f32,
        momentum: rule.momentum as f32,
    };
    range.launch(kernel, &rule, 14)
}
