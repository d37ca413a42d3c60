// Multiplication with a transposed A: lane l loads column k + l of op(A); INNER is 4. One iteration covers
// LANES columns; columns beyond the last are 0.
const K_STEP = LANES;

fn multiply(
    sum: ptr<function, Tile>,
    bias_grad_sum: ptr<function, Row>,
    base: Bases,
    m: u32,
    n: u32,
    rows: u32,
    first: u32,
    depth: u32,
    lane: u32,
) {
    var rows4: array<Rows4, OUTER>;
    for (var o = 0u; o < OUTER; o++) { // unroll
        rows4[o] = a_rows4(0u, m + 4u * o);
    }
    var cursor = a_cursor(base.a, first + lane);
    for (var k = first; k < depth; k += K_STEP) {
        var a_lane: array<vec4<f32>, OUTER>;
        for (var o = 0u; o < OUTER; o++) { // unroll
            a_lane[o] = select(vec4<f32>(0.0), fetch_column4(cursor, rows4[o]), k + lane < depth);
        }
        var b_tile: array<Row, LANES>;
        for (var kk = 0u; kk < LANES; kk++) { // unroll
            b_tile[kk] = b_row(base.b, k + kk, n, depth);
            add_to_bias_grad(bias_grad_sum, b_tile[kk]);
        }
        // Adds all LANES terms of the iteration to one result before the next result, so that each result is
        // loaded and stored once per iteration.
        for (var o = 0u; o < OUTER; o++) { // unroll
            for (var i = 0u; i < INNER; i++) { // unroll
                for (var kk = 0u; kk < LANES; kk++) { // unroll
                    var x: vec4<f32>;
                    if (QUAD_ROWS) {
                        x = vec4<f32>(quadBroadcast(a_lane[o][i], kk & 3u));
                    } else {
                        x = vec4<f32>(subgroupBroadcast(a_lane[o][i], kk));
                    }
                    for (var j = 0u; j < COLUMNS4; j++) { // unroll
                        (*sum)[o][i][j] = fma(x, b_tile[kk][j], (*sum)[o][i][j]);
                    }
                }
            }
        }
        cursor = a_advance(cursor, base.a, k + K_STEP + lane, K_STEP);
    }
}
