// Stores a tile, cut at the last row and the last column: STORE rows at a time, after which the others of INNER move up, and
// then the other OUTER. A driver compiles a store slowly (on software Vulkan all of them written out were most of the time),
// and an index that is no constant would put the tile into memory.
fn store_tile(sum: ptr<function, Tile>, base: u32, m: u32, n: u32, rows: u32, group: u32) {
    var shift: Row;
    for (var j = 0u; j < COLUMNS4; j++) { // unroll
        shift[j] = bias4(group * p.n + n + COLUMN_STEP * j);
    }
    for (var first = m; first < min(m + OUTER * ROW_STEP, rows); first += ROW_STEP) {
        for (var row = first; row < first + INNER; row += STORE) {
            for (var j = 0u; j < COLUMNS4; j++) { // unroll
                let column = n + COLUMN_STEP * j;
                if (column < p.n) {
                    for (var i = 0u; i < STORE; i++) { // unroll
                        if (row + i < rows) {
                            let at = base + c_row(row + i) + column;
                            store_c4(at, p.n - column, shift[j], (*sum)[0][i][j]);
                        }
                    }
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
