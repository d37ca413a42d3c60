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
    let inside = h < p.out_height && w < p.out_width;
    let at = (((tile.image * p.out_height + h) * p.out_width + w) * p.channels + tile.channel) / 4u;
    return select(vec4<f32>(0.0), dy[select(0u, at, inside)], inside);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tile = tile_of(invocation_number(group, local));
    if (!tile.used) {
        return;
    }
    var rows: array<Six, 4>;
    for (var i = 0u; i < 4u; i++) { // unroll
        var line: Four;
        for (var j = 0u; j < 4u; j++) { // unroll
            line[j] = fetch(tile, i, j);
        }
        rows[i] = transform(line);
    }
    for (var j = 0u; j < 6u; j++) { // unroll
        let column = transform(Four(rows[0][j], rows[1][j], rows[2][j], rows[3][j]));
        for (var i = 0u; i < 6u; i++) { // unroll
            w[component(6u * i + j, tile)] = column[i];
        }
    }
}
