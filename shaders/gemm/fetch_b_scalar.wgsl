// Scalar loads of B, for rows of any length.
@group(0) @binding(3) var<storage, read> b: array<f32>;

fn fetch_b4(index: u32) -> vec4<f32> {
    return vec4<f32>(b[index], b[index + 1u], b[index + 2u], b[index + 3u]);
}

fn fetch_b(index: u32) -> f32 {
    return b[index];
}
