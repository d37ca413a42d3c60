// Winograd kernel transform: u[xi][c_in][c_out] = (G g Gt)[xi] of each TAPS x TAPS kernel g, rotated by 180
// degrees if p.flipped is set (for the input gradient); xi numbers the components, the elements of a
// transformed kernel. One invocation per input channel and four output channels.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> kernel: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> u: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let count = p.c_in * p.c_out / 4u;
    if (index >= count) {
        return;
    }
    var rows: array<Points, TAPS>;
    // `rows` is a shift register: rows are inserted at the end, and columns are removed at the front. All
    // indices are therefore constant, which keeps the array in registers although this loop is not unrolled;
    // fully unrolled, it would compile slowly.
    for (var i = 0u; i < TAPS; i++) {
        var values: Taps;
        for (var j = 0u; j < TAPS; j++) { // unroll
            let tap = TAPS * i + j;
            values[j] = kernel[select(tap, TAPS * TAPS - 1u - tap, p.flipped != 0u) * count + index];
        }
        for (var r = 0u; r < LAST_TAP; r++) { // unroll
            rows[r] = rows[r + 1u];
        }
        rows[LAST_TAP] = kernel_transform(values);
    }
    for (var j = 0u; j < POINTS; j++) {
        var values: Taps;
        for (var r = 0u; r < TAPS; r++) { // unroll
            values[r] = rows[r][0];
        }
        let column = kernel_transform(values);
        for (var i = 0u; i < POINTS; i++) { // unroll
            u[(POINTS * i + j) * count + index] = column[i];
        }
        for (var r = 0u; r < TAPS; r++) { // unroll
            for (var k = 0u; k < LAST; k++) { // unroll
                rows[r][k] = rows[r][k + 1u];
            }
        }
    }
}
