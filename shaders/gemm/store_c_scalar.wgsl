// Result rows of any length: the first `count` of four elements.
@group(0) @binding(4) var<storage, read_write> c: array<f32>;

fn store_c4(index: u32, count: u32, shift: vec4<f32>, value: vec4<f32>) {
    var sum = value;
    // A loop that runs once or never: software drivers execute both sides of an `if`.
    for (var once = 0u; once < p.accumulate; once++) {
        for (var i = 0u; i < 4u; i++) { // unroll
            sum[i] += c[index + min(i, count - 1u)];
        }
    }
    let done = epilogue(sum, shift, index);
    // One by one: a loop is compiled far more slowly.
    for (var i = 0u; i < 4u; i++) { // unroll
        if (i < count) {
            c[index + i] = done[i];
        }
    }
}
