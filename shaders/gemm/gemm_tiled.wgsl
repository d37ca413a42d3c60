// C = op(A) * op(B) in workgroup memory: a workgroup computes TILE_ROWS x TILE_COLUMNS results and keeps one
// step of k of both operands in workgroup memory. An invocation computes OUTER groups of four rows and
// COLUMNS4 groups of four columns, spread over the tile, so that the loads and the stores of adjacent
// invocations are adjacent. The loads of the next step are issued before the current step is multiplied.
// uses: gemm, gemm_loader, scalars, grid, bits

// Vectors per group of an invocation; the vectors of one invocation are this far apart.
const A_GROUP = A_VECTORS / OUTER;
const B_GROUP = B_VECTORS / COLUMNS4;

// Tiles of both operands by block of k, k within the block, group and vector: each vector is four rows of A
// (or four columns of B). Only the last index varies between the reads of an invocation, and only the second
// one between its stores, so that naga checks few indices.
var<workgroup> a_tile: array<array<array<array<vec4<f32>, A_GROUP>, OUTER>, 4>, K_BLOCKS>;
var<workgroup> b_tile: array<array<array<array<vec4<f32>, B_GROUP>, COLUMNS4>, 4>, K_BLOCKS>;

// Position of a vector within its group of `size`. Adjacent invocations store the same vector for values of k
// that are 4 apart: the XOR spreads these stores over the memory banks.
fn spread(vector: u32, k_block: u32, size: u32) -> u32 {
    return vector ^ ((k_block * 2u) & (size - 1u));
}

fn store_a(block: mat4x4<f32>, k_block: u32, vector: u32) {
    let at = spread(vector % A_GROUP, k_block, A_GROUP);
    for (var kk = 0u; kk < 4u; kk++) { // unroll
        a_tile[k_block][kk][vector / A_GROUP][at] = block[kk];
    }
}

fn store_b(block: mat4x4<f32>, k_block: u32, vector: u32) {
    let at = spread(vector % B_GROUP, k_block, B_GROUP);
    for (var kk = 0u; kk < 4u; kk++) { // unroll
        b_tile[k_block][kk][vector / B_GROUP][at] = block[kk];
    }
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
    // If a step has no more blocks than the workgroup has invocations, some of them load A and the others B,
    // into the same registers: SHARED_LOADS, and B begins at next[B_FIRST] = next[0].
    let loads_a = loads_a_block(local);
    let loads_b = loads_b_block(local);
    let k_block = local % K_BLOCKS;
    var position = position_at(first + 4u * k_block);
    var a_loader: array<ALoader, A_LOADS>;
    var b_start: array<u32, B_LOADS>;
    for (var i = 0u; i < A_LOADS; i++) { // unroll
        a_loader[i] = a_loader_at(base.a, m + 4u * a_vector_of(local, i), rows);
        if (loads_a) {
            store_a(load_a(a_loader[i], position, end), k_block, a_vector_of(local, i));
        }
    }
    for (var i = 0u; i < B_LOADS; i++) { // unroll
        b_start[i] = b_block_start(base.b, n + 4u * b_vector_of(local, i));
        if (loads_b) {
            store_b(load_b(b_start[i], position, end), k_block, b_vector_of(local, i));
        }
    }
    workgroupBarrier();
    let row = local / B_GROUP;
    let column = local % B_GROUP;
    var sum: Tile;
    for (var k = first; k < end; k += K_STEP) {
        let is_last = k + K_STEP >= end;
        var next: array<mat4x4<f32>, LOADS>;
        if (!is_last) {
            position = position_next(position);
            if (loads_a) {
                for (var i = 0u; i < A_LOADS; i++) { // unroll
                    next[i] = load_a(a_loader[i], position, end);
                }
            } else if (SHARED_LOADS & loads_b) {
                next[0] = load_b(b_start[0], position, end);
            }
            if (!SHARED_LOADS & loads_b) {
                for (var i = 0u; i < B_LOADS; i++) { // unroll
                    next[i + B_FIRST] = load_b(b_start[i], position, end);
                }
            }
        }
        // Beyond the last k both operands are 0, which leaves the sums as they are.
        for (var kk = 0u; kk < K_STEP; kk++) { // unroll
            let a_at = spread(row, kk / 4u, A_GROUP);
            let b_at = spread(column, kk / 4u, B_GROUP);
            var a_part: array<vec4<f32>, OUTER>;
            var b_part: Row;
            for (var o = 0u; o < OUTER; o++) { // unroll
                a_part[o] = a_tile[kk / 4u][kk % 4u][o][a_at];
            }
            for (var j = 0u; j < COLUMNS4; j++) { // unroll
                b_part[j] = b_tile[kk / 4u][kk % 4u][j][b_at];
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
        if (!is_last) {
            if (loads_a) {
                for (var i = 0u; i < A_LOADS; i++) { // unroll
                    store_a(next[i], k_block, a_vector_of(local, i));
                }
            } else if (SHARED_LOADS & loads_b) {
                store_b(next[0], k_block, b_vector_of(local, 0u));
            }
            if (!SHARED_LOADS & loads_b) {
                for (var i = 0u; i < B_LOADS; i++) { // unroll
                    store_b(next[i + B_FIRST], k_block, b_vector_of(local, i));
                }
            }
        }
        workgroupBarrier();
    }
    store_tile(&sum, base.c, m + 4u * row, n + 4u * column, rows, group.z);
}
