// A by columns: lane l holds column k + l, INNER is 4. LANES steps of k, with 0 beyond the last.
const K_STEP = LANES;

fn multiply(
    sum: ptr<function, Tile>,
    column_sum: ptr<function, Row>,
    at: Bases,
    m: u32,
    n: u32,
    rows: u32,
    first: u32,
    depth: u32,
    lane: u32,
) {
    var term: array<Term, OUTER>;
    for (var o = 0u; o < OUTER; o++) { // unroll
        term[o] = a_term(m + 4u * o);
    }
    var cursor = a_cursor(at.a, first + lane);
    for (var k = first; k < depth; k += K_STEP) {
        var share: array<vec4<f32>, OUTER>;
        for (var o = 0u; o < OUTER; o++) { // unroll
            share[o] = select(vec4<f32>(0.0), fetch_column4(cursor, term[o]), k + lane < depth);
        }
        var b_tile: array<Row, LANES>;
        for (var kk = 0u; kk < LANES; kk++) { // unroll
            b_tile[kk] = b_row(at.b, k + kk, n, depth);
            add_row(column_sum, b_tile[kk]);
        }
        // All terms of one result together: it is loaded and stored once.
        for (var o = 0u; o < OUTER; o++) { // unroll
            for (var i = 0u; i < INNER; i++) { // unroll
                for (var kk = 0u; kk < LANES; kk++) { // unroll
                    var x: vec4<f32>;
                    if (QUADS) {
                        x = vec4<f32>(quadBroadcast(share[o][i], kk & 3u));
                    } else {
                        x = vec4<f32>(subgroupBroadcast(share[o][i], kk));
                    }
                    for (var j = 0u; j < COLUMNS4; j++) { // unroll
                        (*sum)[o][i][j] = fma(x, b_tile[kk][j], (*sum)[o][i][j]);
                    }
                }
            }
        }
        cursor = a_advance(cursor, at.a, k + K_STEP + lane, K_STEP);
    }
}
