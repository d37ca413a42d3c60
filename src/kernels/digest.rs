use super::{GRID, Kernel, Launch, SCALARS, grid, index};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "digest",
    body: include_str!("../../shaders/digest.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::Read), (5, Access::ReadWrite)],
    params: &[
        ("segments", std::mem::offset_of!(Params, segments)),
        ("all", std::mem::offset_of!(Params, all)),
    ],
    params_bytes: size_of::<Params>(),
};

const WORKGROUP: u32 = 64;

/// Elements of a segment at most.
pub const SEGMENT_ELEMENTS: usize = 16_384;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    segments: u32,
    all: u32,
}

/// A run of one tensor's elements in an arena.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Segment {
    /// Where it begins in the arena, in elements.
    pub first: u32,
    /// Where it begins in its tensor.
    pub index: u32,
    /// Its length.
    pub count: u32,
}

/// Digests of all segments: of frozen elements, or of all. Buffers: segments, mask, elements, digests.
pub fn digest(segments: usize, all: bool) -> Launch {
    let params = Params { segments: index(segments), all: all.into() };
    Launch::new(&KERNEL, &params, WORKGROUP, grid(segments, 1))
}
