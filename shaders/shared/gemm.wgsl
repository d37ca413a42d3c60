// What the families of C = op(A) * op(B) share. A [m, k] is stored by rows, or [k, m] if A_TRANSPOSED; B [k, n], or
// [n, k] if B_TRANSPOSED. Group z has its own slices of all three. Sums run over ascending k in every family, so that
// all agree bit for bit where the driver does not contract a*b+c.
struct Params {
    m: u32,
    n: u32,
    k: u32,
    a_stride: u32,
    b_stride: u32,
    c_stride: u32,
    a_group: u32,
    b_group: u32,
    c_group: u32,
    a_offset: u32,
    b_offset: u32,
    c_offset: u32,
    m_per_row: u32,
    k_per_row: u32,
    first_row: u32,
    accumulate: u32,
}
@group(0) @binding(0) var<uniform> p: Params;

alias BBlock = array<vec4<f32>, B_BLOCK>;

// Where group z begins in each operand.
struct Bases {
    a: u32,
    b: u32,
    c: u32,
}

fn bases(z: u32) -> Bases {
    return Bases(p.a_offset + z * p.a_group, p.b_offset + z * p.b_group, p.c_offset + z * p.c_group);
}

fn one_a(base: u32, row: u32, k: u32) -> f32 {
    if (A_TRANSPOSED) {
        return fetch_a(base + k * p.a_stride + row);
    }
    return fetch_a(base + row * p.a_stride + k);
}

// Row k of B at columns n .. n + 4*COLUMNS4; columns beyond the last are anything (their results are not stored).
fn b_row(base: u32, k: u32, n: u32) -> array<vec4<f32>, COLUMNS4> {
    var row: array<vec4<f32>, COLUMNS4>;
    for (var j = 0u; j < COLUMNS4; j++) {
        if (B_TRANSPOSED) {
            for (var i = 0u; i < 4u; i++) {
                row[j][i] = fetch_b(base + min(n + 4u * j + i, p.n - 1u) * p.b_stride + k);
            }
        } else {
            row[j] = fetch_b4(base + k * p.b_stride + n + 4u * j);
        }
    }
    return row;
}

// Rows k .. k+3 of B at columns n ..: element [kk * COLUMNS4 + j].
fn b_block(base: u32, k: u32, n: u32) -> BBlock {
    var block: BBlock;
    for (var j = 0u; j < COLUMNS4; j++) {
        if (B_TRANSPOSED) {
            var stored: mat4x4<f32>;
            for (var i = 0u; i < 4u; i++) {
                stored[i] = fetch_b4(base + min(n + 4u * j + i, p.n - 1u) * p.b_stride + k);
            }
            let turned = transpose(stored);
            for (var kk = 0u; kk < 4u; kk++) {
                block[kk * COLUMNS4 + j] = turned[kk];
            }
        } else {
            for (var kk = 0u; kk < 4u; kk++) {
                block[kk * COLUMNS4 + j] = fetch_b4(base + (k + kk) * p.b_stride + n + 4u * j);
            }
        }
    }
    return block;
}

// Stores one row of a tile, cut at the last column.
fn store_row(base: u32, row: u32, n: u32, group: u32, values: array<vec4<f32>, COLUMNS4>) {
    for (var j = 0u; j < COLUMNS4; j++) {
        let column = n + 4u * j;
        if (column < p.n) {
            store_c4(base + row * p.c_stride + column, p.n - column, epilogue(values[j], group * p.n + column));
        }
    }
}
