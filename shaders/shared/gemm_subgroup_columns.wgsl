// A stored transposed: lane l holds row k + l of what is stored, INNER is 4. LANES steps of k.
const K_STEP = LANES;

fn multiply(sum: ptr<function, Tile>, at: Bases, m: u32, n: u32, k: u32, rows: u32, lane: u32) {
    var share: array<vec4<f32>, OUTER>;
    for (var o = 0u; o < OUTER; o++) { // unroll
        share[o] = fetch_a4(at.a + (k + lane) * p.a_stride + m + 4u * o);
    }
    for (var kk = 0u; kk < LANES; kk++) { // unroll
        var row = b_row(at.b, k + kk, n);
        for (var o = 0u; o < OUTER; o++) { // unroll
            let column = subgroupBroadcast(share[o], kk);
            for (var i = 0u; i < INNER; i++) { // unroll
                let x = vec4<f32>(column[i]);
                for (var j = 0u; j < COLUMNS4; j++) { // unroll
                    (*sum)[o][i][j] = fma(x, row[j], (*sum)[o][i][j]);
                }
            }
        }
    }
}
