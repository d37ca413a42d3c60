// Stores the largest of each four rows of a tile, which are a window of 2 x 2 pixels (see pixel_of), and its number in the
// window. C has a row for each.
// uses: largest

@group(0) @binding(6) var<storage, read_write> position: array<vec4<u32>>;

fn store_tile(sum: ptr<function, Tile>, base: u32, m: u32, n: u32, rows: u32, group: u32) {
    var shift: Row;
    for (var j = 0u; j < COLUMNS4; j++) { // unroll
        shift[j] = bias4(group * p.n + n + COLUMN_STEP * j);
    }
    for (var first = m; first < min(m + OUTER * ROW_STEP, rows); first += ROW_STEP) {
        for (var row = first; row < min(first + INNER, rows); row += STORE) {
            for (var j = 0u; j < COLUMNS4; j++) { // unroll
                let column = n + COLUMN_STEP * j;
                if (column < p.n) {
                    var window: array<vec4<f32>, 4>;
                    for (var i = 0u; i < 4u; i++) { // unroll
                        window[i] = biased((*sum)[0][i][j], shift[j]);
                    }
                    let largest = largest_of(window);
                    let at = (base + row / 4u * p.c_stride + column) / 4u;
                    c[at] = largest.value;
                    position[at] = largest.tap;
                }
            }
            for (var i = 0u; i < WAITING; i++) { // unroll
                (*sum)[0][i] = (*sum)[0][i + STORE];
            }
        }
        for (var o = 0u; o < MOVES; o++) { // unroll
            (*sum)[o] = (*sum)[o + 1u];
        }
    }
}
