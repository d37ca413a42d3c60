// Scalar loads of A, for rows of any length.
@group(0) @binding(2) var<storage, read> a: array<NumberA>;

fn fetch_a4(index: u32) -> vec4<NumberA> {
    return vec4<NumberA>(a[index], a[index + 1u], a[index + 2u], a[index + 3u]);
}

fn fetch_a(index: u32) -> NumberA {
    return a[index];
}
