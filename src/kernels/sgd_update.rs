use super::{ELEMENTWISE_WORKGROUP, GRID, Kernel, Launch, SCALARS, UPDATE, grid_of, index};

pub(super) static KERNEL: Kernel = Kernel {
    name: "sgd_update",
    body: include_str!("../../shaders/sgd_update.wgsl"),
    snippets: &[&UPDATE, &SCALARS, &GRID],
    bindings: &[],
    params: &[
        ("quads", std::mem::offset_of!(Params, quads)),
        ("weight_decay", std::mem::offset_of!(Params, weight_decay)),
    ],
    params_bytes: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    quads: u32,
    weight_decay: f32,
}

/// Plain SGD over `elements` (a multiple of 4) of an arena. Buffers: mask, gradients, sums, weights.
pub fn sgd_update(elements: usize, weight_decay: f32) -> Launch {
    let params = Params { quads: index(elements / 4), weight_decay };
    let groups = grid_of(elements / 4, ELEMENTWISE_WORKGROUP);
    Launch::new(&KERNEL, &params, ELEMENTWISE_WORKGROUP, groups).flops(2 * elements as u64)
}
