// Scalar stores of C, for rows of any length: stores the first min(count, 4) of four elements.
@group(0) @binding(4) var<storage, read_write> c: array<f32>;

fn store_c4(index: u32, count: u32, bias: vec4<f32>, value: vec4<f32>) {
    var sum = value;
    if (ACCUMULATE) {
        // A loop of 0 or 1 iterations instead of an `if`: software drivers execute both sides of an `if`.
        for (var once = 0u; once < p.accumulate; once++) {
            for (var i = 0u; i < 4u; i++) { // unroll
                sum[i] += c[index + min(i, count - 1u)];
            }
        }
    }
    let result = epilogue(sum, bias, index);
    // Unrolled, because a loop takes far longer to compile.
    for (var i = 0u; i < 4u; i++) { // unroll
        if (i < count) {
            c[index + i] = result[i];
        }
    }
}
