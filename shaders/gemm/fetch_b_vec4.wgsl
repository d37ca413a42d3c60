// vec4 loads of B: strides and offsets are multiples of 4.
@group(0) @binding(3) var<storage, read> b: array<vec4<NumberB>>;

fn fetch_b4(index: u32) -> vec4<NumberB> {
    return b[index >> 2u];
}

fn fetch_b(index: u32) -> NumberB {
    return b[index >> 2u][index & 3u];
}
