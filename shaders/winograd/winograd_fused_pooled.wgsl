// Fused 2x2 max pooling: a 2x2 tile is a pooling window. Stores its maximum and the position of the maximum.
// uses: largest

@group(0) @binding(6) var<storage, read_write> position: array<vec4<u32>>;

fn store_tile(tile: Block, channel: u32, outputs: array<vec4<f32>, 4>) {
    // The height and the width of the output are even.
    if ((tile.row < p.out_height) & (tile.column < p.out_width)) {
        let bias = load_bias(channel);
        var window = outputs;
        for (var i = 0u; i < 4u; i++) { // unroll
            window[i] = biased(window[i], bias);
        }
        let largest = largest_of(window);
        let pooled_row = (tile.image * p.out_height + tile.row) / 2u;
        let pixel = pooled_row * (p.out_width / 2u) + tile.column / 2u;
        let offset = (pixel * p.out_channels + channel) / 4u;
        y[offset] = largest.value;
        position[offset] = largest.tap;
    }
}
