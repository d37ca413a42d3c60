use crate::kernels::{Launch, files, grid_of, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 256;

params! {
    struct RoundParams {
        count: u32,
    }
}

/// Rounds `scale` times the elements of an operand to f16, as a GEMM with cooperative matrices does, and stores
/// them in f16. Buffers: operand, rounded operand.
pub fn round_to_f16(elements: usize, scale: u32) -> Launch {
    let width = if elements.is_multiple_of(4) { 4 } else { 1 };
    let count = elements / width;
    let params = RoundParams { count: to_u32(count) };
    let mut launch = Launch::new(&files::ROUND_TO_F16, &params, WORKGROUP, grid_of(count, WORKGROUP))
        .channel_vectors(width == 4);
    launch.declarations.extend([
        format!("const SCALE: f32 = {scale}.0;"),
        format!("alias Half = {};", if width == 4 { "vec4<f16>" } else { "f16" }),
        format!(
            "fn rounded(x: Element) -> Half {{ return to_f16(vec4<f32>(x)){}; }}",
            if width == 4 { "" } else { ".x" }
        ),
    ]);
    launch
}
