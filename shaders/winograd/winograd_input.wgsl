// Winograd input transform: v[xi][tile][c] = (Bt d B)[xi]. d contains the POINTS x POINTS input pixels that a
// tile of 4x4 outputs reads (0 in the padding); xi numbers the components, the elements of a transformed
// tile. One invocation per tile and four channels.
// uses: winograd_params, scalars, grid

@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> v: array<vec4<f32>>;

fn fetch(tile: Tile, row: u32, column: u32) -> vec4<f32> {
    // For positions above or left of the image, the unsigned subtractions wrap to values far out of range.
    let h = tile.row + row - p.pad_top;
    let w = tile.column + column - p.pad_left;
    let inside = (h < p.height) & (w < p.width);
    let offset = (((tile.image * p.height + h) * p.width + w) * p.channels + tile.channel) / 4u;
    return select(vec4<f32>(0.0), x[select(0u, offset, inside)], inside);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    p = uniform_params;
    let tile = tile_of(invocation_index(group, local));
    if (!tile.valid) {
        return;
    }
    var rows: array<Points, POINTS>;
    // `rows` is a shift register: rows are inserted at the end, and columns are removed at the front. All
    // indices are therefore constant, which keeps the array in registers although this loop is not unrolled;
    // fully unrolled, it would compile slowly.
    for (var i = 0u; i < POINTS; i++) {
        var values: Points;
        for (var j = 0u; j < POINTS; j++) { // unroll
            values[j] = fetch(tile, i, j);
        }
        for (var r = 0u; r < LAST; r++) { // unroll
            rows[r] = rows[r + 1u];
        }
        rows[LAST] = input_transform(values);
    }
    for (var j = 0u; j < POINTS; j++) {
        var values: Points;
        for (var r = 0u; r < POINTS; r++) { // unroll
            values[r] = rows[r][0];
        }
        let column = input_transform(values);
        for (var i = 0u; i < POINTS; i++) { // unroll
            v[component_offset(POINTS * i + j, tile)] = column[i];
        }
        for (var r = 0u; r < POINTS; r++) { // unroll
            for (var k = 0u; k < LAST; k++) { // unroll
                rows[r][k] = rows[r][k + 1u];
            }
        }
    }
}
