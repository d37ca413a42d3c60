// v[xi][tile][c] = (Bt d B)[xi] of the 6x6 inputs under a tile of 4x4 results, 0 in the padding (Lavin and Gray 2016, F(4x4, 3x3)).
// One invocation four channels of a tile.
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> v: array<vec4<f32>>;

fn transform(d: Six) -> Six {
    let a = fma(vec4<f32>(-4.0), d[2], d[4]);
    let b = fma(vec4<f32>(-4.0), d[1], d[3]);
    let c = d[4] - d[2];
    let e = 2.0 * (d[3] - d[1]);
    return Six(
        fma(vec4<f32>(4.0), d[0], fma(vec4<f32>(-5.0), d[2], d[4])),
        a + b,
        a - b,
        c + e,
        c - e,
        fma(vec4<f32>(4.0), d[1], fma(vec4<f32>(-5.0), d[3], d[5])),
    );
}

fn fetch(tile: Tile, row: u32, column: u32) -> vec4<f32> {
    // Above and left of the image these wrap to far beyond the last.
    let h = tile.row + row - p.pad_top;
    let w = tile.column + column - p.pad_left;
    let inside = (h < p.height) & (w < p.width);
    let at = (((tile.image * p.height + h) * p.width + w) * p.channels + tile.channel) / 4u;
    return select(vec4<f32>(0.0), x[select(0u, at, inside)], inside);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    p = given;
    let tile = tile_of(invocation_number(group, local));
    if (!tile.used) {
        return;
    }
    var rows: array<Six, 6>;
    // Rows and then columns move through the first place: loops that are written out compile slowly.
    for (var i = 0u; i < 6u; i++) {
        var line: Six;
        for (var j = 0u; j < 6u; j++) { // unroll
            line[j] = fetch(tile, i, j);
        }
        for (var r = 0u; r < 5u; r++) { // unroll
            rows[r] = rows[r + 1u];
        }
        rows[5] = transform(line);
    }
    for (var j = 0u; j < 6u; j++) {
        let column = transform(Six(rows[0][0], rows[1][0], rows[2][0], rows[3][0], rows[4][0], rows[5][0]));
        for (var i = 0u; i < 6u; i++) { // unroll
            v[component(6u * i + j, tile)] = column[i];
        }
        for (var r = 0u; r < 6u; r++) { // unroll
            for (var k = 0u; k < 5u; k++) { // unroll
                rows[r][k] = rows[r][k + 1u];
            }
        }
    }
}
