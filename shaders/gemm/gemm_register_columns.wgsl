// Multiplication with a transposed A, for k in first .. end: each iteration loads four columns of op(A) and
// transposes them. INNER is 4.
fn multiply(sum: ptr<function, Tile>, base: Bases, m: u32, n: u32, rows: u32, first: u32, end: u32) {
    var rows4: array<Rows4, OUTER>;
    for (var o = 0u; o < OUTER; o++) { // unroll
        rows4[o] = a_rows4(0u, m + INNER * o);
    }
    var cursor: array<Cursor, 4>;
    for (var kk = 0u; kk < 4u; kk++) { // unroll
        cursor[kk] = a_cursor(base.a, first + kk);
    }
    for (var k = first; k < end; k += 4u) {
        var a_tile: ABlock;
        for (var o = 0u; o < OUTER; o++) { // unroll
            var stored: mat4x4<f32>;
            for (var kk = 0u; kk < 4u; kk++) { // unroll
                stored[kk] = select(vec4<f32>(0.0), fetch_column4(cursor[kk], rows4[o]), k + kk < end);
            }
            let transposed_block = transpose(stored);
            for (var i = 0u; i < 4u; i++) { // unroll
                a_tile[o][i] = transposed_block[i];
            }
        }
        var b_tile = b_block(base.b, k, n, end);
        for (var kk = 0u; kk < 4u; kk++) { // unroll
            for (var o = 0u; o < OUTER; o++) { // unroll
                for (var i = 0u; i < INNER; i++) { // unroll
                    let x = vec4<f32>(a_tile[o][i][kk]);
                    for (var j = 0u; j < COLUMNS4; j++) { // unroll
                        (*sum)[o][i][j] = fma(x, b_tile[kk][j], (*sum)[o][i][j]);
                    }
                }
            }
        }
        for (var kk = 0u; kk < 4u; kk++) { // unroll
            cursor[kk] = a_advance(cursor[kk], base.a, k + 4u + kk, 4u);
        }
    }
}
