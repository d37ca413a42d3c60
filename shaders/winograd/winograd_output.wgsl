// y = At m A of each tile's POINTS x POINTS sums: 4x4 results, cut at the image's edge, with what is done to each before it
// is stored. One invocation four channels of a tile.
// uses: winograd_params, scalars, grid, bits

@group(0) @binding(2) var<storage, read> m: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> extra: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

// What is done to each result: nothing (0), a bias (1), then ReLU (2), or what a ReLU with the results `extra` passes back (3).
// Where nothing is read, anything may be bound in its place.
const RELU_BACK = 3u;

// The bias, where there is one.
fn bias_of(channel: u32) -> vec4<f32> {
    if (p.epilogue % RELU_BACK == 0u) {
        return vec4<f32>(0.0);
    }
    return extra[channel / 4u];
}

fn biased(sum: vec4<f32>, bias: vec4<f32>) -> vec4<f32> {
    // Not sum + 0: -0.0 would become 0.
    let shifted = select(sum + bias, sum, p.epilogue % RELU_BACK == 0u);
    return select(shifted, vec4<f32>(0.0), vec4<bool>(p.epilogue == 2u) & at_most_zero(shifted));
}

fn finish(sum: vec4<f32>, bias: vec4<f32>, at: u32) -> vec4<f32> {
    var result = biased(sum, bias);
    // A loop that runs once or never: software drivers execute both sides of an `if`.
    for (var once = 0u; once < p.epilogue / RELU_BACK; once++) {
        result = select(vec4<f32>(0.0), result, extra[at] > vec4<f32>(0.0));
    }
    return result;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    p = given;
    let tile = tile_of(invocation_number(group, local));
    if (!tile.used) {
        return;
    }
    var rows: array<Four, POINTS>;
    // Rows and then columns move through the first place: loops that are written out compile slowly.
    for (var i = 0u; i < POINTS; i++) {
        var line: Points;
        for (var j = 0u; j < POINTS; j++) { // unroll
            line[j] = m[component(POINTS * i + j, tile)];
        }
        for (var r = 0u; r < LAST; r++) { // unroll
            rows[r] = rows[r + 1u];
        }
        rows[LAST] = output_of(line);
    }
    let bias = bias_of(tile.channel);
    var before: Four;
    for (var j = 0u; j < 4u; j++) {
        var line: Points;
        for (var r = 0u; r < POINTS; r++) { // unroll
            line[r] = rows[r][0];
        }
        let column = output_of(line);
        store_column(tile, j, before, column, bias);
        before = column;
        for (var r = 0u; r < POINTS; r++) { // unroll
            for (var k = 0u; k < 3u; k++) { // unroll
                rows[r][k] = rows[r][k + 1u];
            }
        }
    }
}
