// Stores the largest of each window of 2 x 2 results and its number in the window, of every second column and the one before it.
// Results move through the first two places: see winograd_output.wgsl.
// uses: largest

@group(0) @binding(5) var<storage, read_write> position: array<vec4<u32>>;

fn store_column(tile: Tile, j: u32, before: Four, column: Four, bias: vec4<f32>) {
    var left = before;
    var right = column;
    for (var row = tile.row; row < tile.row + 4u; row += 2u) {
        if ((j % 2u == 1u) & (row < p.out_height) & (tile.column + j < p.out_width)) {
            var window = array<vec4<f32>, 4>(left[0], right[0], left[1], right[1]);
            for (var i = 0u; i < 4u; i++) { // unroll
                window[i] = biased(window[i], bias);
            }
            let largest = largest_of(window);
            let line = (tile.image * p.out_height + row) / 2u;
            let pixel = line * (p.out_width / 2u) + (tile.column + j) / 2u;
            let at = (pixel * p.channels + tile.channel) / 4u;
            y[at] = largest.value;
            position[at] = largest.tap;
        }
        left = Four(left[2], left[3], left[2], left[3]);
        right = Four(right[2], right[3], right[2], right[3]);
    }
}
