// Stores the four outputs of a 2x2 tile in row-major order, clipped at the image's edge.
fn store_tile(tile: Block, channel: u32, outputs: array<vec4<f32>, 4>) {
    let bias = load_bias(channel);
    for (var i = 0u; i < 4u; i++) { // unroll
        let row = tile.row + i / 2u;
        let column = tile.column + i % 2u;
        if ((row < p.out_height) & (column < p.out_width)) {
            let pixel = (tile.image * p.out_height + row) * p.out_width + column;
            let offset = (pixel * p.out_channels + channel) / 4u;
            var result = biased(outputs[i], bias);
            // Not the loop of apply_epilogue, which drivers compile slowly: this kernel is for GPUs, where an `if` is cheap.
            if (p.epilogue == RELU_GRAD) {
                result = select(vec4<f32>(0.0), result, extra[offset] > vec4<f32>(0.0));
            }
            y[offset] = result;
        }
    }
}
