// Winograd output transform: y = At m A, the 4x4 outputs of each tile from its POINTS x POINTS components m,
// clipped at the image's edge; then the epilogue. One invocation per tile and four channels.
// uses: winograd_params, winograd_epilogue, scalars, grid

@group(0) @binding(2) var<storage, read> m: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> extra: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    p = uniform_params;
    let tile = tile_of(invocation_index(group, local));
    if (!tile.valid) {
        return;
    }
    var rows: array<Outputs, POINTS>;
    // `rows` is a shift register: rows are inserted at the end, and columns are removed at the front. All
    // indices are therefore constant, which keeps the array in registers although this loop is not unrolled;
    // fully unrolled, it would compile slowly.
    for (var i = 0u; i < POINTS; i++) {
        var values: Points;
        for (var j = 0u; j < POINTS; j++) { // unroll
            values[j] = m[component_offset(POINTS * i + j, tile)];
        }
        for (var r = 0u; r < LAST; r++) { // unroll
            rows[r] = rows[r + 1u];
        }
        rows[LAST] = output_transform(values);
    }
    let bias = load_bias(tile.channel);
    var previous: Outputs;
    for (var j = 0u; j < 4u; j++) {
        var values: Points;
        for (var r = 0u; r < POINTS; r++) { // unroll
            values[r] = rows[r][0];
        }
        let column = output_transform(values);
        store_column(tile, j, previous, column, bias);
        previous = column;
        for (var r = 0u; r < POINTS; r++) { // unroll
            for (var k = 0u; k < 3u; k++) { // unroll
                rows[r][k] = rows[r][k + 1u];
            }
        }
    }
}
