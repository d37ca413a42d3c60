// Weight gradient from its Winograd components, the adjoint of winograd_kernel: dw = Gt m G. m contains
// POINTS x POINTS components, already summed over all tiles. One invocation per input channel and four output
// channels.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> m: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dw: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let count = p.c_in * p.c_out / 4u;
    if (index >= count) {
        return;
    }
    var rows: array<Taps, POINTS>;
    // `rows` is a shift register: rows are inserted at the end, and columns are removed at the front. All
    // indices are therefore constant, which keeps the array in registers although this loop is not unrolled;
    // fully unrolled, it would compile slowly.
    for (var i = 0u; i < POINTS; i++) {
        var values: Points;
        for (var j = 0u; j < POINTS; j++) { // unroll
            values[j] = m[(POINTS * i + j) * count + index];
        }
        for (var r = 0u; r < LAST; r++) { // unroll
            rows[r] = rows[r + 1u];
        }
        rows[LAST] = kernel_grad_transform(values);
    }
    for (var j = 0u; j < TAPS; j++) {
        var values: Points;
        for (var r = 0u; r < POINTS; r++) { // unroll
            values[r] = rows[r][0];
        }
        let column = kernel_grad_transform(values);
        for (var i = 0u; i < TAPS; i++) { // unroll
            dw[(TAPS * i + j) * count + index] = column[i];
        }
        for (var r = 0u; r < POINTS; r++) { // unroll
            for (var k = 0u; k < LAST_TAP; k++) { // unroll
                rows[r][k] = rows[r][k + 1u];
            }
        }
    }
}
