// vec4 stores of C: strides and offsets are multiples of 4.
@group(0) @binding(4) var<storage, read_write> c: array<vec4<f32>>;

fn store_c4(index: u32, count: u32, bias: vec4<f32>, value: vec4<f32>) {
    var sum = value;
    if (ACCUMULATE) {
        // A loop of 0 or 1 iterations instead of an `if`: software drivers execute both sides of an `if`.
        for (var once = 0u; once < p.accumulate; once++) {
            sum += c[index >> 2u];
        }
    }
    c[index >> 2u] = epilogue(sum, bias, index);
}
