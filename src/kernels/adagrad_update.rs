use super::update_range::Range;
use super::{GRID, Kernel, Launch, SCALARS, UPDATE, UpdateRange};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "adagrad_update",
    body: include_str!("../../shaders/adagrad_update.wgsl"),
    snippets: &[&UPDATE, &SCALARS, &GRID],
    bindings: &[(10, Access::ReadWrite)],
    params: &[
        ("first", std::mem::offset_of!(Params, range.first)),
        ("quads", std::mem::offset_of!(Params, range.quads)),
        ("clip_value", std::mem::offset_of!(Params, range.clip_value)),
        ("clip_by_norm", std::mem::offset_of!(Params, range.clip_by_norm)),
        ("rule.rate_scale", std::mem::offset_of!(Params, rule.rate_scale)),
        ("rule.weight_decay", std::mem::offset_of!(Params, rule.weight_decay)),
        ("rule.epsilon", std::mem::offset_of!(Params, rule.epsilon)),
    ],
    params_bytes: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    range: Range,
    rule: Rule,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Rule {
    rate_scale: f32,
    weight_decay: f32,
    epsilon: f32,
}

/// Adagrad over a range of an arena's elements. Buffers: gradients, mask, sums, weights, sum of squares.
pub fn adagrad_update(range: &UpdateRange, epsilon: f64, weight_decay: f64) -> Launch {
    let rule = Rule {
        rate_scale: range.rate_scale as f32,
        weight_decay: weight_decay as f32,
        epsilon: epsilon as f32,
    };
    range.launch(&KERNEL, &rule, 8)
}
