// Winograd components of the output gradients, the adjoint of winograd_output: w[xi][tile][c] = (A dy
// At)[xi]. dy contains the 4x4 output gradients of a tile (0 beyond the image's edge); xi numbers the
// components. One invocation per tile and four channels.
// uses: winograd_params, scalars, grid

@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> w: array<vec4<f32>>;

fn fetch(tile: Tile, row: u32, column: u32) -> vec4<f32> {
    let h = tile.row + row;
    let w = tile.column + column;
    let inside = (h < p.out_height) & (w < p.out_width);
    let offset = (((tile.image * p.out_height + h) * p.out_width + w) * p.channels + tile.channel) / 4u;
    return select(vec4<f32>(0.0), dy[select(0u, offset, inside)], inside);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    p = uniform_params;
    let tile = tile_of(invocation_index(group, local));
    if (!tile.valid) {
        return;
    }
    var rows: array<Points, 4u>;
    // `rows` is a shift register: rows are inserted at the end, and columns are removed at the front. All
    // indices are therefore constant, which keeps the array in registers although this loop is not unrolled;
    // fully unrolled, it would compile slowly.
    for (var i = 0u; i < 4u; i++) {
        var values: Outputs;
        for (var j = 0u; j < 4u; j++) { // unroll
            values[j] = fetch(tile, i, j);
        }
        for (var r = 0u; r < 3u; r++) { // unroll
            rows[r] = rows[r + 1u];
        }
        rows[3u] = output_grad_transform(values);
    }
    for (var j = 0u; j < POINTS; j++) {
        var values: Outputs;
        for (var r = 0u; r < 4u; r++) { // unroll
            values[r] = rows[r][0];
        }
        let column = output_grad_transform(values);
        for (var i = 0u; i < POINTS; i++) { // unroll
            w[component_offset(POINTS * i + j, tile)] = column[i];
        }
        for (var r = 0u; r < 4u; r++) { // unroll
            for (var k = 0u; k < LAST; k++) { // unroll
                rows[r][k] = rows[r][k + 1u];
            }
        }
    }
}
