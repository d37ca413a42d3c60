use crate::kernels::{Launch, files, grid, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

/// Maximum number of elements of a segment.
pub const SEGMENT_ELEMENTS: usize = 16_384;

params! {
    struct Params {
        segments: u32,
        all: u32,
    }
}

/// Computes the digest of every segment: over its frozen elements, or over all elements if `all`. Buffers:
/// segments, mask, elements, digests.
pub fn digest(segments: usize, all: bool) -> Launch {
    let params = Params { segments: to_u32(segments), all: all.into() };
    Launch::new(&files::DIGEST, &params, WORKGROUP, grid(segments, 1))
}
