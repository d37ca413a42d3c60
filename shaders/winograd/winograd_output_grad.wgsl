// w[xi][tile][c] = (A dy At)[xi] of each tile's 4x4 gradients of results, 0 beyond the image's edge: the adjoint of
// winograd_output. One invocation four channels of a tile.
// uses: winograd_params, scalars, grid

@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> w: array<vec4<f32>>;

fn fetch(tile: Tile, row: u32, column: u32) -> vec4<f32> {
    let h = tile.row + row;
    let w = tile.column + column;
    let inside = (h < p.out_height) & (w < p.out_width);
    let at = (((tile.image * p.out_height + h) * p.out_width + w) * p.channels + tile.channel) / 4u;
    return select(vec4<f32>(0.0), dy[select(0u, at, inside)], inside);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    p = given;
    let tile = tile_of(invocation_number(group, local));
    if (!tile.used) {
        return;
    }
    var rows: array<Points, 4u>;
    // Rows and then columns move through the first place: loops that are written out compile slowly.
    for (var i = 0u; i < 4u; i++) {
        var line: Four;
        for (var j = 0u; j < 4u; j++) { // unroll
            line[j] = fetch(tile, i, j);
        }
        for (var r = 0u; r < 3u; r++) { // unroll
            rows[r] = rows[r + 1u];
        }
        rows[3u] = output_grad(line);
    }
    for (var j = 0u; j < POINTS; j++) {
        var line: Four;
        for (var r = 0u; r < 4u; r++) { // unroll
            line[r] = rows[r][0];
        }
        let column = output_grad(line);
        for (var i = 0u; i < POINTS; i++) { // unroll
            w[component(POINTS * i + j, tile)] = column[i];
        }
        for (var r = 0u; r < 4u; r++) { // unroll
            for (var k = 0u; k < LAST; k++) { // unroll
                rows[r][k] = rows[r][k + 1u];
            }
        }
    }
}
