// vec4 stores of C: strides and offsets are multiples of 4.
@group(0) @binding(4) var<storage, read_write> c: array<vec4<f32>>;

fn store_c4(index: u32, count: u32, bias: vec4<f32>, value: vec4<f32>) {
    var sum = value;
    if (ACCUMULATE) {
        sum += c[index >> 2u];
    }
    c[index >> 2u] = epilogue(sum, bias, index);
}
