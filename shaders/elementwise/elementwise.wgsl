// Parameters of the elementwise kernels, and the bounds-checked store of four elements.
@group(0) @binding(0) var<uniform> p: Params;

fn store4(index: u32, count: u32, value: vec4<f32>) {
    if (index * 4u + 4u <= count) {
        y[index] = value;
        return;
    }
    // Stores the last elements one by one, because the memory after them belongs to another tensor. Unrolled,
    // because FXC (the older shader compiler of DX12) turns a vector component with a variable index into a
    // dot product with a one-hot vector, through which a NaN of another component spreads.
    for (var i = 0u; i < 3u; i++) { // unroll
        if (index * 4u + i < count) {
            y[index][i] = value[i];
        }
    }
}
