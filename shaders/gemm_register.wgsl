// C = op(A) * op(B): each invocation keeps a tile of ROWS x 4*COLUMNS4 results in registers. No workgroup memory, no
// barriers: right everywhere, and the faster choice where barriers cost more than loads.

// Rows m .. m+ROWS-1 of A at k .. k+3, a vector along k for each row.
fn a_block(base: u32, m: u32, k: u32, last: u32) -> array<vec4<f32>, ROWS> {
    var block: array<vec4<f32>, ROWS>;
    if (A_TRANSPOSED) {
        for (var i = 0u; i < ROWS; i += 4u) {
            var stored: mat4x4<f32>;
            for (var kk = 0u; kk < 4u; kk++) {
                stored[kk] = fetch_a4(base + (k + kk) * p.a_stride + m + i);
            }
            let turned = transpose(stored);
            for (var r = 0u; r < 4u; r++) {
                block[i + r] = turned[r];
            }
        }
    } else {
        for (var i = 0u; i < ROWS; i++) {
            block[i] = fetch_a4(base + min(m + i, last) * p.a_stride + k);
        }
    }
    return block;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let rows = live(p.m, p.m_per_row, p.first_row);
    let depth = live(p.k, p.k_per_row, p.first_row);
    let tiles_n = (p.n + 4u * COLUMNS4 - 1u) / (4u * COLUMNS4);
    let tile = invocation_number(group, local);
    let m = tile / tiles_n * ROWS;
    let n = tile % tiles_n * 4u * COLUMNS4;
    if (m >= rows) {
        return;
    }
    let at = bases(group.z);
    var sum: array<vec4<f32>, TILE>;
    let whole = depth & ~3u;
    for (var k = 0u; k < whole; k += 4u) {
        var a_tile = a_block(at.a, m, k, rows - 1u);
        var b_tile = b_block(at.b, k, n);
        for (var kk = 0u; kk < 4u; kk++) {
            for (var i = 0u; i < ROWS; i++) {
                for (var j = 0u; j < COLUMNS4; j++) {
                    let x = vec4<f32>(a_tile[i][kk]);
                    sum[i * COLUMNS4 + j] = fma(x, b_tile[kk * COLUMNS4 + j], sum[i * COLUMNS4 + j]);
                }
            }
        }
    }
    for (var k = whole; k < depth; k++) {
        var row = b_row(at.b, k, n);
        for (var i = 0u; i < ROWS; i++) {
            let x = vec4<f32>(one_a(at.a, min(m + i, rows - 1u), k));
            for (var j = 0u; j < COLUMNS4; j++) {
                sum[i * COLUMNS4 + j] = fma(x, row[j], sum[i * COLUMNS4 + j]);
            }
        }
    }
    for (var i = 0u; i < ROWS; i++) {
        if (m + i < rows) {
            var values: array<vec4<f32>, COLUMNS4>;
            for (var j = 0u; j < COLUMNS4; j++) {
                values[j] = sum[i * COLUMNS4 + j];
            }
            store_row(at.c, m + i, n, group.z, values);
        }
    }
}
