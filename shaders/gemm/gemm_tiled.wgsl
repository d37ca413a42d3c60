// C = op(A) * op(B): a workgroup keeps a tile of SIDE x SIDE results, and a step of k of both operands in workgroup memory.
// Each invocation has four rows and four columns of each quarter of the tile: what neighbours read lies side by side, and so
// does what they store. While one step is multiplied, the next is on its way from the operands.
// uses: gemm, gemm_loader, scalars, grid, bits

// Four rows of A (columns of B) a vector, step by step of k. See `spot`.
var<workgroup> a_tile: array<vec4<f32>, SIDE_VECTORS * K_STEP>;
var<workgroup> b_tile: array<vec4<f32>, SIDE_VECTORS * K_STEP>;

const HALF = SIDE / 8u;

// Where vector `number` of term k lies. Neighbours store the same vector of terms that are 4 apart: they would all meet in one
// bank, were they not shifted.
fn spot(k: u32, number: u32) -> u32 {
    return k * SIDE_VECTORS + (number ^ (k / 4u * 2u));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    p = given;
    let rows = live(given.m, given.m_per_row, given.first_row);
    let tiles_n = (given.n + SIDE - 1u) / SIDE;
    let tile = group_number(group);
    let m = tile / tiles_n * SIDE;
    let n = tile % tiles_n * SIDE;
    // The whole workgroup leaves together: all must reach the barriers.
    if (m >= rows) {
        return;
    }
    let at = bases(group.z);
    let first = split_first(group.z);
    let end = split_end(group.z, all_terms());
    // Where a step has fewer blocks than there are invocations, some load A and the others B.
    let loads_a = local < BLOCKS;
    let loads_b = local >= WORKGROUP - BLOCKS;
    var a_loader = a_loader_at(at.a, m, rows, first, local % BLOCKS);
    let b_loader = b_loader_at(n, local % BLOCKS);
    var a_next: mat4x4<f32>;
    var b_next: mat4x4<f32>;
    if (loads_a) {
        a_next = load_a(&a_loader, at.a, first, end);
    }
    if (loads_b) {
        b_next = load_b(b_loader, at.b, first, end);
    }
    let row = local / HALF;
    let column = local % HALF;
    var sum: Tile;
    for (var k = first; k < end; k += K_STEP) {
        if (loads_a) {
            for (var i = 0u; i < 4u; i++) { // unroll
                a_tile[spot(a_loader.term + i, a_loader.number)] = a_next[i];
            }
        }
        if (loads_b) {
            for (var i = 0u; i < 4u; i++) { // unroll
                b_tile[spot(b_loader.term + i, b_loader.number)] = b_next[i];
            }
        }
        workgroupBarrier();
        if (k + K_STEP < end) {
            if (loads_a) {
                a_next = load_a(&a_loader, at.a, k + K_STEP, end);
            }
            if (loads_b) {
                b_next = load_b(b_loader, at.b, k + K_STEP, end);
            }
        }
        for (var term = 0u; term < min(K_STEP, end - k); term += 4u) {
            for (var kk = 0u; kk < 4u; kk++) { // unroll
                let a_at = spot(term + kk, row);
                let b_at = spot(term + kk, column);
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
    store_tile(&sum, at.c, m + 4u * row, n + 4u * column, rows, group.z);
}
