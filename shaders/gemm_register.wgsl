// C = op(A) * op(B): each invocation keeps a tile of OUTER*INNER rows x 4*COLUMNS4 results in registers. No workgroup memory,
// no barriers: right everywhere, and the faster choice where barriers cost more than loads.

alias ABlock = array<array<vec4<f32>, INNER>, OUTER>;

// Rows m .. m + OUTER*INNER of A at k .. k+3, a vector along k for each row; INNER is 4.
fn a_block(base: u32, m: u32, k: u32, last: u32) -> ABlock {
    var block: ABlock;
    for (var o = 0u; o < OUTER; o++) { // unroll
        if (A_TRANSPOSED) {
            var stored: mat4x4<f32>;
            for (var kk = 0u; kk < 4u; kk++) { // unroll
                stored[kk] = fetch_a4(base + (k + kk) * p.a_stride + m + o * INNER);
            }
            let turned = transpose(stored);
            for (var i = 0u; i < 4u; i++) { // unroll
                block[o][i] = turned[i];
            }
        } else {
            for (var i = 0u; i < 4u; i++) { // unroll
                block[o][i] = fetch_a4(base + min(m + o * INNER + i, last) * p.a_stride + k);
            }
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
    let m = tile / tiles_n * OUTER * INNER;
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
            for (var o = 0u; o < OUTER; o++) { // unroll
                for (var i = 0u; i < INNER; i++) { // unroll
                    let x = vec4<f32>(a_tile[o][i][kk]);
                    for (var j = 0u; j < COLUMNS4; j++) { // unroll
                        sum[o][i][j] = fma(x, b_tile[kk][j], sum[o][i][j]);
                    }
                }
            }
        }
    }
    if (HAS_TAIL) {
        add_tail(&sum, at, m, n, rows, whole, depth);
    }
    store_tile(&sum, at.c, m, n, rows, group.z);
}
