// What elementwise kernels are told, and the guarded store of four elements.
@group(0) @binding(0) var<uniform> p: Params;

fn store4(index: u32, count: u32, value: vec4<f32>) {
    if (index * 4u + 4u <= count) {
        y[index] = value;
        return;
    }
    // The last few elements, one by one: what lies beyond is not ours. Written out, for FXC makes a sum of products of a vector's
    // element with a variable index, in which a NaN next to it spreads.
    for (var i = 0u; i < 3u; i++) { // unroll
        if (index * 4u + i < count) {
            y[index][i] = value[i];
        }
    }
}
