// The sums of B's columns, [splits, groups * n], from the tiles that begin with the first row.
@group(0) @binding(6) var<storage, read_write> column_sums: array<f32>;

fn add_row(column_sum: ptr<function, Row>, row: Row) {
    for (var j = 0u; j < COLUMNS4; j++) { // unroll
        (*column_sum)[j] += row[j];
    }
}

fn store_sums(column_sum: ptr<function, Row>, m: u32, n: u32, z: u32) {
    if (m != 0u) {
        return;
    }
    let at = z % p.splits * p.c_stride + z / p.splits * p.n;
    for (var j = 0u; j < COLUMNS4; j++) { // unroll
        for (var i = 0u; i < 4u; i++) { // unroll
            let column = n + COLUMN_STEP * j + i;
            if (column < p.n) {
                column_sums[at + column] = (*column_sum)[j][i];
            }
        }
    }
}
