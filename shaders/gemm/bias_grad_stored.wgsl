// Bias gradient fused into the GEMM of a weight gradient: the column sums of B (dy), [splits, groups * n].
// All rows of tiles compute the same sums, so only the first row of tiles stores them.
@group(0) @binding(6) var<storage, read_write> bias_grad: array<f32>;

fn add_to_bias_grad(bias_grad_sum: ptr<function, Row>, row: Row) {
    for (var j = 0u; j < COLUMNS4; j++) { // unroll
        (*bias_grad_sum)[j] += row[j];
    }
}

fn store_bias_grad(bias_grad_sum: ptr<function, Row>, m: u32, n: u32, z: u32) {
    if (m != 0u) {
        return;
    }
    let offset = z % p.splits * p.c_stride + z / p.splits * p.n;
    for (var j = 0u; j < COLUMNS4; j++) { // unroll
        for (var i = 0u; i < 4u; i++) { // unroll
            let column = n + COLUMN_STEP * j + i;
            if (column < p.n) {
                bias_grad[offset + column] = (*bias_grad_sum)[j][i];
            }
        }
    }
}
