// C = op(A) * op(B): each invocation keeps a tile of INNER rows x 4*COLUMNS4 results in registers. No workgroup memory,
// no barriers: right everywhere, and the faster choice where barriers cost more than loads.

// Rows m .. m+INNER-1 of A at k .. k+3, a vector along k for each row.
fn a_block(base: u32, m: u32, k: u32, last: u32) -> array<vec4<f32>, INNER> {
    var block: array<vec4<f32>, INNER>;
    if (A_TRANSPOSED) {
        for (var q = 0u; q < INNER4; q++) { // unroll
            var stored: mat4x4<f32>;
            for (var kk = 0u; kk < 4u; kk++) { // unroll
                stored[kk] = fetch_a4(base + (k + kk) * p.a_stride + m + 4u * q);
            }
            let turned = transpose(stored);
            for (var r = 0u; r < 4u; r++) { // unroll
                block[4u * q + r] = turned[r];
            }
        }
    } else {
        for (var i = 0u; i < INNER; i++) { // unroll
            block[i] = fetch_a4(base + min(m + i, last) * p.a_stride + k);
        }
    }
    return block;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let rows = live(p.m, p.m_per_row, p.first_row);
    let depth = live_depth();
    let tiles_n = (p.n + 4u * COLUMNS4 - 1u) / (4u * COLUMNS4);
    let tile = invocation_number(group, local);
    let m = tile / tiles_n * INNER;
    let n = tile % tiles_n * 4u * COLUMNS4;
    if (m >= rows) {
        return;
    }
    let at = bases(group.z);
    var sum: Tile;
    let whole = depth & ~3u;
    for (var k = 0u; k < whole; k += 4u) {
        var a_tile = a_block(at.a, m, k, rows - 1u);
        var b_tile = b_block(at.b, k, n);
        for (var kk = 0u; kk < 4u; kk++) { // unroll
            for (var i = 0u; i < INNER; i++) { // unroll
                let x = vec4<f32>(a_tile[i][kk]);
                for (var j = 0u; j < COLUMNS4; j++) { // unroll
                    sum[0][i][j] = fma(x, b_tile[kk][j], sum[0][i][j]);
                }
            }
        }
    }
    if (HAS_TAIL) {
        add_tail(&sum, at, m, n, rows, whole, depth);
    }
    store_tile(&sum, at.c, m, n, rows, group.z);
}
