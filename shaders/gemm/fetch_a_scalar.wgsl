// Scalar loads of A, for rows of any length.
@group(0) @binding(2) var<storage, read> a: array<f32>;

fn fetch_a4(index: u32) -> vec4<f32> {
    return vec4<f32>(a[index], a[index + 1u], a[index + 2u], a[index + 3u]);
}

fn fetch_a(index: u32) -> f32 {
    return a[index];
}
