// Stores column j of a tile's results, cut at the image's edge. Results move through the first place: see winograd_output.wgsl.
fn store_column(tile: Tile, j: u32, before: Four, column: Four, bias: vec4<f32>) {
    var rest = column;
    for (var i = 0u; i < 4u; i++) {
        if ((tile.row + i < p.out_height) & (tile.column + j < p.out_width)) {
            let pixel = (tile.image * p.out_height + tile.row + i) * p.out_width + tile.column + j;
            let at = (pixel * p.channels + tile.channel) / 4u;
            y[at] = finish(rest[0], bias, at);
        }
        rest = Four(rest[1], rest[2], rest[3], rest[3]);
    }
}
