// Stores a tile, clipped to the last row and column. Each loop iteration stores STORE_ROWS rows and then
// shifts the remaining rows down, first within INNER, then within OUTER, so that all indices into the tile
// are constant: a variable index would move the tile from registers into memory. The loops are not unrolled,
// because drivers compile stores slowly (fully unrolled they took most of the compile time on software
// Vulkan).
fn store_tile(sum: ptr<function, Tile>, base: u32, m: u32, n: u32, rows: u32, group: u32) {
    var bias: Row;
    for (var j = 0u; j < COLUMNS4; j++) { // unroll
        bias[j] = bias4(group * p.n + n + COLUMN_STEP * j);
    }
    for (var first = m; first < min(m + OUTER * ROW_STEP, rows); first += ROW_STEP) {
        for (var row = first; row < first + INNER; row += STORE_ROWS) {
            for (var j = 0u; j < COLUMNS4; j++) { // unroll
                let column = n + COLUMN_STEP * j;
                if (column < p.n) {
                    for (var i = 0u; i < STORE_ROWS; i++) { // unroll
                        if (row + i < rows) {
                            let offset = base + c_row_offset(row + i) + column;
                            store_c4(offset, p.n - column, bias[j], (*sum)[0][i][j]);
                        }
                    }
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
