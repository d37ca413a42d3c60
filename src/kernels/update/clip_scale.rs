use crate::kernels::{Launch, files, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 256;

params! {
    struct Params {
        parts: u32,
        max_norm: f32,
    }
}

/// Computes the gradient norm from the partial sums of its square, and the factor that limits it to
/// `max_norm`. Buffers: partial sums, sums.
pub fn clip_scale(parts: usize, max_norm: f64) -> Launch {
    let params = Params { parts: to_u32(parts), max_norm: max_norm as f32 };
    Launch::new(&files::CLIP_SCALE, &params, WORKGROUP, [1, 1, 1])
        .flops(parts as u64)
        .iterations(parts.div_ceil(WORKGROUP as usize) + WORKGROUP as usize)
}
