// A by columns, from `first` to before `end`: four of them are loaded and turned; INNER is 4.
fn multiply(sum: ptr<function, Tile>, at: Bases, m: u32, n: u32, rows: u32, first: u32, end: u32) {
    var term: array<Term, OUTER>;
    for (var o = 0u; o < OUTER; o++) { // unroll
        term[o] = a_term(m + INNER * o);
    }
    var cursor: array<Cursor, 4>;
    for (var kk = 0u; kk < 4u; kk++) { // unroll
        cursor[kk] = a_cursor(at.a, first + kk);
    }
    for (var k = first; k < end; k += 4u) {
        var a_tile: ABlock;
        for (var o = 0u; o < OUTER; o++) { // unroll
            var stored: mat4x4<f32>;
            for (var kk = 0u; kk < 4u; kk++) { // unroll
                stored[kk] = select(vec4<f32>(0.0), fetch_column4(cursor[kk], term[o]), k + kk < end);
            }
            let turned = transpose(stored);
            for (var i = 0u; i < 4u; i++) { // unroll
                a_tile[o][i] = turned[i];
            }
        }
        var b_tile = b_block(at.b, k, n, end);
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
            cursor[kk] = a_advance(cursor[kk], at.a, k + 4u + kk, 4u);
        }
    }
}
