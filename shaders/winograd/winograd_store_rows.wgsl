// Stores column j of a tile's outputs, clipped at the image's edge. Each iteration stores the first element
// and shifts the others down, so that all indices are constant.
fn store_column(tile: Tile, j: u32, previous: Outputs, column: Outputs, bias: vec4<f32>) {
    var remaining = column;
    for (var i = 0u; i < 4u; i++) {
        if ((tile.row + i < p.out_height) & (tile.column + j < p.out_width)) {
            let pixel = (tile.image * p.out_height + tile.row + i) * p.out_width + tile.column + j;
            let offset = (pixel * p.channels + tile.channel) / 4u;
            y[offset] = apply_epilogue(remaining[0], bias, offset);
        }
        remaining = Outputs(remaining[1], remaining[2], remaining[3], remaining[3]);
    }
}
