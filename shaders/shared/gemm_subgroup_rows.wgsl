// A stored by rows: lane l holds rows m + l, m + LANES + l, .. of the tile, INNER is LANES. Four steps of k.
const K_STEP = 4u;

fn multiply(sum: ptr<function, Tile>, at: Bases, m: u32, n: u32, k: u32, rows: u32, lane: u32) {
    var share: array<vec4<f32>, OUTER>;
    for (var o = 0u; o < OUTER; o++) { // unroll
        share[o] = fetch_a4(at.a + min(m + o * INNER + lane, rows - 1u) * p.a_stride + k);
    }
    var b_tile = b_block(at.b, k, n);
    for (var o = 0u; o < OUTER; o++) { // unroll
        for (var i = 0u; i < INNER; i++) { // unroll
            let along_k = subgroupBroadcast(share[o], i);
            for (var kk = 0u; kk < 4u; kk++) { // unroll
                let x = vec4<f32>(along_k[kk]);
                for (var j = 0u; j < COLUMNS4; j++) { // unroll
                    (*sum)[o][i][j] = fma(x, b_tile[kk][j], (*sum)[o][i][j]);
                }
            }
        }
    }
}
