// Multiplication with a row-major A: each iteration loads a vec4 along k for each row of the tile. Split-K is
// not used with a row-major A, so `first` is not used.
fn multiply(sum: ptr<function, Tile>, base: Bases, m: u32, n: u32, rows: u32, first: u32, depth: u32) {
    let padded_depth = (depth + 3u) & ~3u;
    var origin: array<array<RowOrigin, INNER>, OUTER>;
    for (var o = 0u; o < OUTER; o++) { // unroll
        for (var i = 0u; i < INNER; i++) { // unroll
            origin[o][i] = a_row_origin(base.a, min(m + o * INNER + i, rows - 1u));
        }
    }
    var b_base = base.b;
    for (var kernel_row = 0u; kernel_row < p.kernel_h; kernel_row++) {
        for (var kernel_column = 0u; kernel_column < p.kernel_w; kernel_column++) {
            var start: array<array<SegmentStart, INNER>, OUTER>;
            for (var o = 0u; o < OUTER; o++) { // unroll
                for (var i = 0u; i < INNER; i++) { // unroll
                    start[o][i] = a_segment(origin[o][i], kernel_row, kernel_column);
                }
            }
            for (var k = 0u; k < padded_depth; k += 4u) {
                var a_tile: ABlock;
                for (var o = 0u; o < OUTER; o++) { // unroll
                    for (var i = 0u; i < INNER; i++) { // unroll
                        a_tile[o][i] = fetch_row4(start[o][i], k);
                    }
                }
                var b_tile = b_block(b_base, k, n, depth);
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
            }
            b_base += p.b_segment_stride;
        }
        b_base += p.b_kernel_row_stride;
    }
}
