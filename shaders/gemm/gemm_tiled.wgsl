// C = op(A) * op(B) in workgroup memory: a workgroup computes SIDE x SIDE results and keeps one step of k of
// both operands in workgroup memory. Each invocation computes four rows and four columns in each quarter of
// the tile, so that the loads and the stores of adjacent invocations are adjacent. The loads of the next step
// are issued before the current step is multiplied.
// uses: gemm, gemm_loader, scalars, grid, bits

// Tiles of both operands, indexed by `tile_index`: each vector is four rows of A (or four columns of B) at
// one k.
var<workgroup> a_tile: array<vec4<f32>, SIDE_VECTORS * K_STEP>;
var<workgroup> b_tile: array<vec4<f32>, SIDE_VECTORS * K_STEP>;

const HALF = SIDE / 8u;

// Index in a tile of vector number `vector` at k. Adjacent invocations store the same vector for values of k
// that are 4 apart: the XOR spreads these stores over the memory banks.
fn tile_index(k: u32, vector: u32) -> u32 {
    return k * SIDE_VECTORS + (vector ^ (k / 4u * 2u));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    p = uniform_params;
    let rows = valid_count(uniform_params.m, uniform_params.m_per_example, uniform_params.first_example);
    let tiles_n = (uniform_params.n + SIDE - 1u) / SIDE;
    let tile = workgroup_index(group);
    let m = tile / tiles_n * SIDE;
    let n = tile % tiles_n * SIDE;
    // Either the whole workgroup returns here or none of it, because all invocations must reach the barriers.
    if (m >= rows) {
        return;
    }
    let base = group_bases(group.z);
    let first = split_begin(group.z);
    let end = split_end(group.z, total_depth());
    // If a step has fewer blocks than the workgroup has invocations, some invocations load A and the others
    // B.
    let loads_a = local < BLOCKS;
    let loads_b = local >= WORKGROUP - BLOCKS;
    var a_loader = a_loader_at(base.a, m, rows, first, local % BLOCKS);
    let b_loader = b_loader_at(n, local % BLOCKS);
    var a_next: mat4x4<f32>;
    var b_next: mat4x4<f32>;
    if (loads_a) {
        a_next = load_a(&a_loader, base.a, first, end);
    }
    if (loads_b) {
        b_next = load_b(b_loader, base.b, first, end);
    }
    let row = local / HALF;
    let column = local % HALF;
    var sum: Tile;
    for (var k = first; k < end; k += K_STEP) {
        if (loads_a) {
            for (var i = 0u; i < 4u; i++) { // unroll
                a_tile[tile_index(a_loader.k_offset + i, a_loader.vector)] = a_next[i];
            }
        }
        if (loads_b) {
            for (var i = 0u; i < 4u; i++) { // unroll
                b_tile[tile_index(b_loader.k_offset + i, b_loader.vector)] = b_next[i];
            }
        }
        workgroupBarrier();
        if (k + K_STEP < end) {
            if (loads_a) {
                a_next = load_a(&a_loader, base.a, k + K_STEP, end);
            }
            if (loads_b) {
                b_next = load_b(b_loader, base.b, k + K_STEP, end);
            }
        }
        for (var k_local = 0u; k_local < min(K_STEP, end - k); k_local += 4u) {
            for (var kk = 0u; kk < 4u; kk++) { // unroll
                let a_at = tile_index(k_local + kk, row);
                let b_at = tile_index(k_local + kk, column);
                var a_part: array<vec4<f32>, OUTER>;
                var b_part: Row;
                for (var o = 0u; o < OUTER; o++) { // unroll
                    a_part[o] = a_tile[a_at + HALF * o];
                }
                for (var j = 0u; j < COLUMNS4; j++) { // unroll
                    b_part[j] = b_tile[b_at + HALF * j];
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
        }
        workgroupBarrier();
    }
    store_tile(&sum, base.c, m + 4u * row, n + 4u * column, rows, group.z);
}
