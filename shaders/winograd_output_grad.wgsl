// w[xi][tile][c] = (A dy At)[xi] of each tile's 4x4 gradients of results, 0 beyond the image's edge: the adjoint of
// winograd_output. One invocation four channels of a tile.
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> w: array<vec4<f32>>;

alias Four = array<vec4<f32>, 4>;

fn transform(d: Four) -> Six {
    let a = d[0] + d[2];
    let b = d[1] + d[3];
    let c = fma(vec4<f32>(4.0), d[2], d[0]);
    let e = fma(vec4<f32>(8.0), d[3], 2.0 * d[1]);
    return Six(d[0], a + b, a - b, c + e, c - e, d[3]);
}

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
    var rows: array<Six, 4>;
    // Rows and then columns move through the first place: loops that are written out compile slowly.
    for (var i = 0u; i < 4u; i++) {
        var line: Four;
        for (var j = 0u; j < 4u; j++) { // unroll
            line[j] = fetch(tile, i, j);
        }
        for (var r = 0u; r < 3u; r++) { // unroll
            rows[r] = rows[r + 1u];
        }
        rows[3] = transform(line);
    }
    for (var j = 0u; j < 6u; j++) {
        let column = transform(Four(rows[0][0], rows[1][0], rows[2][0], rows[3][0]));
        for (var i = 0u; i < 6u; i++) { // unroll
            w[component(6u * i + j, tile)] = column[i];
        }
        for (var r = 0u; r < 4u; r++) { // unroll
            for (var k = 0u; k < 5u; k++) { // unroll
                rows[r][k] = rows[r][k + 1u];
            }
        }
    }
}
