// Winograd output transform: y = At m A, the 4x4 outputs of each tile from its POINTS x POINTS components m,
// clipped at the image's edge; then the epilogue. One invocation per tile and four channels.
// uses: winograd_params, scalars, grid, bits

@group(0) @binding(2) var<storage, read> m: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> extra: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

// Epilogues, selected by p.epilogue: 0 = none, 1 = bias, 2 = bias and ReLU, 3 = gradient of a ReLU whose
// output is `extra`. If the epilogue reads no operand, any buffer may be bound as `extra`.
const RELU_GRAD = 3u;

// Bias of four channels; 0 if the epilogue has none.
fn load_bias(channel: u32) -> vec4<f32> {
    if (p.epilogue % RELU_GRAD == 0u) {
        return vec4<f32>(0.0);
    }
    return extra[channel / 4u];
}

fn biased(sum: vec4<f32>, bias: vec4<f32>) -> vec4<f32> {
    // Without a bias, the sum is selected unchanged, because adding 0 would turn -0.0 into 0.
    let shifted = select(sum + bias, sum, p.epilogue % RELU_GRAD == 0u);
    return select(shifted, vec4<f32>(0.0), vec4<bool>(p.epilogue == 2u) & at_most_zero(shifted));
}

fn apply_epilogue(sum: vec4<f32>, bias: vec4<f32>, offset: u32) -> vec4<f32> {
    var result = biased(sum, bias);
    // A loop of 0 or 1 iterations instead of an `if`: software drivers execute both sides of an `if`.
    for (var once = 0u; once < p.epilogue / RELU_GRAD; once++) {
        result = select(vec4<f32>(0.0), result, extra[offset] > vec4<f32>(0.0));
    }
    return result;
}

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
