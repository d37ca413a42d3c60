// Result rows of any length: the first `count` of four elements.
@group(0) @binding(4) var<storage, read_write> c: array<f32>;

fn store_c4(index: u32, count: u32, value: vec4<f32>) {
    for (var i = 0u; i < min(count, 4u); i++) {
        if (p.accumulate == 0u) {
            c[index + i] = value[i];
        } else {
            c[index + i] += value[i];
        }
    }
}
