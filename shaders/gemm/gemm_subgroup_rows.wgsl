// Multiplication with a row-major A: lane l loads rows m + l, m + LANES + l, .. of the tile; INNER is LANES.
// One iteration covers four k.
const K_STEP = 4u;

// Split-K is not used with a row-major A, so `first` is 0.
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
    let padded_depth = (depth + 3u) & ~3u;
    var origin: array<RowOrigin, OUTER>;
    for (var o = 0u; o < OUTER; o++) { // unroll
        origin[o] = a_row_origin(base.a, min(m + o * INNER + lane, rows - 1u));
    }
    var b_base = base.b;
    let kernel_h = uniform_params.kernel_h;
    let kernel_w = uniform_params.kernel_w;
    for (var kernel_row = 0u; kernel_row < kernel_h; kernel_row++) {
        for (var kernel_column = 0u; kernel_column < kernel_w; kernel_column++) {
            var start: array<SegmentStart, OUTER>;
            for (var o = 0u; o < OUTER; o++) { // unroll
                start[o] = a_segment(origin[o], kernel_row, kernel_column);
            }
            for (var k = 0u; k < padded_depth; k += K_STEP) {
                var a_lane: array<vec4<f32>, OUTER>;
                for (var o = 0u; o < OUTER; o++) { // unroll
                    a_lane[o] = fetch_row4(start[o], k);
                }
                var b_tile = b_block(b_base, k, n, depth);
                for (var o = 0u; o < OUTER; o++) { // unroll
                    for (var i = 0u; i < INNER; i++) { // unroll
                        var along_k: vec4<f32>;
                        if (QUAD_ROWS) {
                            along_k = quadBroadcast(a_lane[o], i & 3u);
                        } else {
                            along_k = subgroupBroadcast(a_lane[o], i);
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
            b_base += p.b_segment_stride;
        }
        b_base += p.b_kernel_row_stride;
    }
}
