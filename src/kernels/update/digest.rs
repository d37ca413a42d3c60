use crate::kernels::{Launch, files, grid, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

/// Elements of a segment at most.
pub const SEGMENT_ELEMENTS: usize = 16_384;

params! {
    struct Params {
        segments: u32,
        all: u32,
    }
}

params! {
    /// A run of one tensor's elements in an arena.
    pub struct Segment {
        /// Where it begins in the arena, in elements.
        pub first: u32,
        /// Where it begins in its tensor.
        pub index: u32,
        /// Its length.
        pub count: u32,
    }
}

params! {
    /// The sums of one segment.
    pub(in crate::kernels) struct Digest {
        low: u32,
        high: u32,
    }
}

/// Digests of all segments: of frozen elements, or of all. Buffers: segments, mask, elements, digests.
pub fn digest(segments: usize, all: bool) -> Launch {
    let params = Params { segments: index(segments), all: all.into() };
    Launch::new(&files::DIGEST, &params, WORKGROUP, grid(segments, 1))
}
