use super::{BITS, CLASS_WEIGHT, Kernel, Launch, SCALARS, constant_bool, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "metrics",
    body: include_str!("../../shaders/metrics.wgsl"),
    snippets: &[&SCALARS, &BITS, &CLASS_WEIGHT],
    bindings: &[
        (2, Access::Read),
        (3, Access::Read),
        (4, Access::Read),
        (5, Access::Read),
        (6, Access::ReadWrite),
        (7, Access::ReadWrite),
    ],
    params: &[
        ("rows", std::mem::offset_of!(Params, rows)),
        ("classes", std::mem::offset_of!(Params, classes)),
    ],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 64;

/// Bytes of the running sums: loss f32, correct u32, examples u32, non-finite flag u32, its step u32, weight f32, the
/// gradients' norm f32 and what clips them f32.
pub const SUMS_BYTES: u64 = 32;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    classes: u32,
}

/// The mean loss, and the running sums; `classes` is 0 where there are no labels. Buffers: loss, logits, labels, class
/// weights, mean, sums; any buffer to read stands for what there is not.
pub fn metrics(rows: usize, classes: usize, weighted: bool) -> Launch {
    let params = Params { rows: index(rows), classes: index(classes) };
    let mut launch = Launch::new(&KERNEL, &params, WORKGROUP, [1, 1, 1])
        .flops((rows * classes) as u64)
        .rounds(rows.div_ceil(WORKGROUP as usize) * (1 + classes) + WORKGROUP as usize);
    launch.declarations.push(constant_bool("COUNTED", classes > 0));
    launch.declarations.push(constant_bool("WEIGHTED", weighted));
    launch
}
