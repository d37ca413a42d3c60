// C = op(A) * op(B) in workgroup memory: a workgroup computes TILE_ROWS x TILE_COLUMNS results and keeps one
// step of k of both operands in workgroup memory. An invocation computes OUTER groups of four rows and
// COLUMNS4 groups of four columns, spread over the tile, so that the loads and the stores of adjacent
// invocations are adjacent. The loads of the next step are issued before the current step is multiplied.
// uses: gemm, gemm_loader, scalars, grid, bits

// Vectors per group of an invocation; the vectors of one invocation are this far apart.
const A_GROUP = A_VECTORS / OUTER;
const B_GROUP = B_VECTORS / COLUMNS4;

// Tiles of both operands by k, group and vector: each vector is four rows of A (or four columns of B). Only
// the last index varies between the reads of an invocation, so that naga checks few indices.
var<workgroup> a_tile: array<array<array<vec4<f32>, A_GROUP>, OUTER>, K_STEP>;
var<workgroup> b_tile: array<array<array<vec4<f32>, B_GROUP>, COLUMNS4>, K_STEP>;

// Position of a vector within its group of `size`. Adjacent invocations store the same vector for values of k
// that are 4 apart: the XOR spreads these stores over the memory banks.
fn spread(vector: u32, k: u32, size: u32) -> u32 {
    return vector ^ ((k / 4u * 2u) & (size - 1u));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    p = uniform_params;
    let rows = valid_count(uniform_params.m, uniform_params.m_per_example, uniform_params.first_example);
    let tiles_n = (uniform_params.n + TILE_COLUMNS - 1u) / TILE_COLUMNS;
    let tile = workgroup_index(group);
    let m = tile / tiles_n * TILE_ROWS;
    let n = tile % tiles_n * TILE_COLUMNS;
    // Either the whole workgroup returns here or none of it, because all invocations must reach the barriers.
    if (m >= rows) {
        return;
    }
    let base = group_bases(group.z);
    let first = split_begin(group.z);
    let end = split_end(group.z, total_depth());
    // If a step has fewer blocks than the workgroup has invocations, some invocations load A and the others
    // B, into the same registers: B begins at next[B_FIRST].
    let loads_a = local < A_BLOCKS;
    let loads_b = local >= WORKGROUP - min(B_BLOCKS, WORKGROUP);
    var a_loader: array<ALoader, A_LOADS>;
    var b_loader: array<BLoader, B_LOADS>;
    var next: array<mat4x4<f32>, LOADS>;
    for (var i = 0u; i < A_LOADS; i++) { // unroll
        a_loader[i] = a_loader_at(base.a, m, rows, first, (local + i * WORKGROUP) % A_BLOCKS);
    }
    for (var i = 0u; i < B_LOADS; i++) { // unroll
        b_loader[i] = b_loader_at(n, first, (local + i * WORKGROUP) % B_BLOCKS);
    }
    if (loads_a) {
        for (var i = 0u; i < A_LOADS; i++) { // unroll
            next[i] = load_a(a_loader[i], end);
        }
    }
    if (loads_b) {
        for (var i = 0u; i < B_LOADS; i++) { // unroll
            next[i + B_FIRST] = load_b(b_loader[i], base.b, end);
        }
    }
    let row = local / B_GROUP;
    let column = local % B_GROUP;
    var sum: Tile;
    for (var k = first; k < end; k += K_STEP) {
        if (loads_a) {
            for (var i = 0u; i < A_LOADS; i++) { // unroll
                for (var kk = 0u; kk < 4u; kk++) { // unroll
                    let k_store = a_loader[i].k_offset + kk;
                    let a_vector = a_loader[i].vector;
                    a_tile[k_store][a_vector / A_GROUP][spread(a_vector % A_GROUP, k_store, A_GROUP)] = next[i][kk];
                }
            }
        }
        if (loads_b) {
            for (var i = 0u; i < B_LOADS; i++) { // unroll
                for (var kk = 0u; kk < 4u; kk++) { // unroll
                    let k_store = b_loader[i].k_offset + kk;
                    let b_vector = b_loader[i].vector;
                    b_tile[k_store][b_vector / B_GROUP][spread(b_vector % B_GROUP, k_store, B_GROUP)] =
                        next[i + B_FIRST][kk];
                }
            }
        }
        workgroupBarrier();
        if (k + K_STEP < end) {
            if (loads_a) {
                for (var i = 0u; i < A_LOADS; i++) { // unroll
                    a_loader[i] = a_loader_next(a_loader[i]);
                    next[i] = load_a(a_loader[i], end);
                }
            }
            if (loads_b) {
                for (var i = 0u; i < B_LOADS; i++) { // unroll
                    b_loader[i] = b_loader_next(b_loader[i]);
                    next[i + B_FIRST] = load_b(b_loader[i], base.b, end);
                }
            }
        }
        // Beyond the last k both operands are 0, which leaves the sums as they are.
        for (var kk = 0u; kk < K_STEP; kk++) { // unroll
            let a_at = spread(row, kk, A_GROUP);
            let b_at = spread(column, kk, B_GROUP);
            var a_part: array<vec4<f32>, OUTER>;
            var b_part: Row;
            for (var o = 0u; o < OUTER; o++) { // unroll
                a_part[o] = a_tile[kk][o][a_at];
            }
            for (var j = 0u; j < COLUMNS4; j++) { // unroll
                b_part[j] = b_tile[kk][j][b_at];
            }
            for (var o = 0u; o < OUTER; o++) { // unroll
                for (var i = 0u; i < INNER; i++) { // unroll
                    let x = vec4<f32>(a_part[o][i]);
                    for (var j = 0u; j < COLUMNS4; j++) { // unroll
                        sum[o][i][j] = fma(x, b_part[j], sum[o][i][j]);
                    }
                }
            }
        }
        workgroupBarrier();
    }
    store_tile(&sum, base.c, m + 4u * row, n + 4u * column, rows, group.z);
}
