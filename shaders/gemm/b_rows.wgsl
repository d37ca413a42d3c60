// Loads of B for the families without workgroup memory.
alias BBlock = array<Row, 4>;

// Loads row k of B at columns n .. n + 4*COLUMNS4. If MASKED, rows from `depth` on are 0. Columns beyond the
// last are undefined; their results are not stored.
fn b_row(base: u32, k: u32, n: u32, depth: u32) -> Row {
    var row: Row;
    let inside = (k < depth) | !MASKED;
    let k_clamped = select(depth - 1u, k, inside);
    for (var j = 0u; j < COLUMNS4; j++) { // unroll
        if (B_TRANSPOSED) {
            for (var i = 0u; i < 4u; i++) { // unroll
                row[j][i] = fetch_b(base + min(n + 4u * j + i, p.n - 1u) * p.b_stride + k_clamped);
            }
        } else {
            row[j] = fetch_b4(base + k_clamped * p.b_stride + n + 4u * j);
        }
        if (MASKED) {
            row[j] = select(vec4<f32>(0.0), row[j], inside);
        }
    }
    return row;
}

// Loads rows k .. k+3 of B at columns n .. n+3, with bounds as in b_row. The layout of B is a run-time
// parameter, which costs one select per element but lets one shader serve both layouts.
fn b_quad(base: u32, k: u32, n: u32, depth: u32) -> mat4x4<f32> {
    let transposed = p.b_transposed != 0u;
    var stored: mat4x4<f32>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let row = select(min(k + i, depth - 1u), min(n + i, p.n - 1u), transposed);
        stored[i] = fetch_b4(base + row * p.b_stride + select(n, k, transposed));
    }
    let transposed_block = transpose(stored);
    var quad: mat4x4<f32>;
    for (var kk = 0u; kk < 4u; kk++) { // unroll
        quad[kk] = select(stored[kk], transposed_block[kk], transposed);
        if (MASKED) {
            quad[kk] = select(vec4<f32>(0.0), quad[kk], k + kk < depth);
        }
    }
    return quad;
}

// Loads rows k .. k+3 of B at columns n .. n + 4*COLUMNS4.
fn b_block(base: u32, k: u32, n: u32, depth: u32) -> BBlock {
    var block: BBlock;
    for (var j = 0u; j < COLUMNS4; j++) { // unroll
        let quad = b_quad(base, k, n + 4u * j, depth);
        for (var kk = 0u; kk < 4u; kk++) { // unroll
            block[kk][j] = quad[kk];
        }
    }
    return block;
}
