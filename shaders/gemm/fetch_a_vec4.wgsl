// vec4 loads of A: strides and offsets are multiples of 4.
@group(0) @binding(2) var<storage, read> a: array<vec4<NumberA>>;

fn fetch_a4(index: u32) -> vec4<NumberA> {
    return a[index >> 2u];
}

fn fetch_a(index: u32) -> NumberA {
    return a[index >> 2u][index & 3u];
}
