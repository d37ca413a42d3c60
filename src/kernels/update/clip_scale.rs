use crate::kernels::{Launch, files, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 256;

params! {
    struct Params {
        parts: u32,
        most: f32,
    }
}

/// The norm from the parts of its square, and what gradients are multiplied by for it to be `most` or less. Buffers:
/// parts, sums.
pub fn clip_scale(parts: usize, most: f64) -> Launch {
    let params = Params { parts: index(parts), most: most as f32 };
    Launch::new(&files::CLIP_SCALE, &params, WORKGROUP, [1, 1, 1])
        .flops(parts as u64)
        .iterations(parts.div_ceil(WORKGROUP as usize) + WORKGROUP as usize)
}
