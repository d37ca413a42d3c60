// A by rows: lane l holds rows m + l, m + LANES + l, .. of the tile, INNER is LANES. Four steps of k.
const K_STEP = 4u;

// Never cut into splits: `first` is 0.
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
    let whole = (depth + 3u) & ~3u;
    var place: array<Place, OUTER>;
    for (var o = 0u; o < OUTER; o++) { // unroll
        place[o] = a_place(at.a, min(m + o * INNER + lane, rows - 1u));
    }
    var b_base = at.b;
    let kernel_h = given.kernel_h;
    let kernel_w = given.kernel_w;
    for (var kernel_row = 0u; kernel_row < kernel_h; kernel_row++) {
        for (var kernel_column = 0u; kernel_column < kernel_w; kernel_column++) {
            var start: array<Start, OUTER>;
            for (var o = 0u; o < OUTER; o++) { // unroll
                start[o] = a_segment(place[o], kernel_row, kernel_column);
            }
            for (var k = 0u; k < whole; k += K_STEP) {
                var share: array<vec4<f32>, OUTER>;
                for (var o = 0u; o < OUTER; o++) { // unroll
                    share[o] = fetch_row4(start[o], k);
                }
                var b_tile = b_block(b_base, k, n, depth);
                for (var o = 0u; o < OUTER; o++) { // unroll
                    for (var i = 0u; i < INNER; i++) { // unroll
                        var along_k: vec4<f32>;
                        if (QUADS) {
                            along_k = quadBroadcast(share[o], i & 3u);
                        } else {
                            along_k = subgroupBroadcast(share[o], i);
                        }
                        for (var kk = 0u; kk < 4u; kk++) { // unroll
                            let x = vec4<f32>(along_k[kk]);
                            for (var j = 0u; j < COLUMNS4; j++) { // unroll
                                (*sum)[o][i][j] = fma(x, b_tile[kk][j], (*sum)[o][i][j]);
                            }
                        }
                    }
                }
            }
            b_base += p.b_segment;
        }
        b_base += p.b_row;
    }
}
