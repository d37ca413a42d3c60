// Fused 2x2 max pooling: for every odd column j of a tile, stores the maximum of each 2 x 2 window of columns
// j-1 and j, and its position in the window. Each iteration stores the first two elements of both columns and
// shifts the others down, so that all indices are constant.
// uses: largest

@group(0) @binding(5) var<storage, read_write> position: array<vec4<u32>>;

fn store_column(tile: Tile, j: u32, previous: Outputs, column: Outputs, bias: vec4<f32>) {
    var left = previous;
    var right = column;
    for (var row = tile.row; row < tile.row + 4u; row += 2u) {
        if ((j % 2u == 1u) & (row < p.out_height) & (tile.column + j < p.out_width)) {
            var window = array<vec4<f32>, 4>(left[0], right[0], left[1], right[1]);
            for (var i = 0u; i < 4u; i++) { // unroll
                window[i] = biased(window[i], bias);
            }
            let largest = largest_of(window);
            let pooled_row = (tile.image * p.out_height + row) / 2u;
            let pixel = pooled_row * (p.out_width / 2u) + (tile.column + j) / 2u;
            let offset = (pixel * p.channels + tile.channel) / 4u;
            y[offset] = largest.value;
            position[offset] = largest.tap;
        }
        left = Outputs(left[2], left[3], left[2], left[3]);
        right = Outputs(right[2], right[3], right[2], right[3]);
    }
}
