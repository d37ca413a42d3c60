// Fused 2x2 max pooling: every four rows of a tile are the pixels of one window (see pixel_of in gemm.wgsl);
// stores their maximum and its position in the window. C has one row per window.
// uses: largest

@group(0) @binding(6) var<storage, read_write> position: array<vec4<u32>>;

fn store_tile(sum: ptr<function, Tile>, base: u32, m: u32, n: u32, rows: u32, group: u32) {
    var bias: Row;
    for (var j = 0u; j < COLUMNS4; j++) { // unroll
        bias[j] = bias4(group * p.n + n + COLUMN_STEP * j);
    }
    for (var first = m; first < min(m + OUTER * ROW_STEP, rows); first += ROW_STEP) {
        for (var row = first; row < min(first + INNER, rows); row += STORE_ROWS) {
            for (var j = 0u; j < COLUMNS4; j++) { // unroll
                let column = n + COLUMN_STEP * j;
                if (column < p.n) {
                    var window: array<vec4<f32>, 4>;
                    for (var i = 0u; i < 4u; i++) { // unroll
                        window[i] = biased((*sum)[0][i][j], bias[j]);
                    }
                    let largest = largest_of(window);
                    let offset = (base + row / 4u * p.c_stride + column) / 4u;
                    c[offset] = largest.value;
                    position[offset] = largest.tap;
                }
            }
            for (var i = 0u; i < INNER_SHIFTS; i++) { // unroll
                (*sum)[0][i] = (*sum)[0][i + STORE_ROWS];
            }
        }
        for (var o = 0u; o < OUTER_SHIFTS; o++) { // unroll
            (*sum)[o] = (*sum)[o + 1u];
        }
    }
}
