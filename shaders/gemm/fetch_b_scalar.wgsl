// Scalar loads of B, for rows of any length.
@group(0) @binding(3) var<storage, read> b: array<NumberB>;

fn fetch_b4(index: u32) -> vec4<NumberB> {
    return vec4<NumberB>(b[index], b[index + 1u], b[index + 2u], b[index + 3u]);
}

fn fetch_b(index: u32) -> NumberB {
    return b[index];
}
