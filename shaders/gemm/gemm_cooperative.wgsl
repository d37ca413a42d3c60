// uses: gemm, gemm_loader, half, scalars, grid, bits

enable f16;
enable wgpu_cooperative_matrix;

// C = op(A) * op(B) with cooperative matrices: operands are rounded to f16, sums are f32. Operands are stored in
// f32 (NumberA, NumberB) and rounded here, or stored in f16 by round_to_f16. A workgroup
// computes TILE_ROWS x TILE_COLUMNS results and keeps one step of k of both operands in workgroup memory. A subgroup
// computes SUBTILES_PER_SUBGROUP subtiles of 2 x 2 matrices, so that each matrix it loads is used twice. The
// loads of the next step are issued before the current step is multiplied.

// Both tiles by row (or column of B) and k: the k that a lane of a cooperative matrix holds are adjacent, so
// that drivers load them as vectors. Rows are 8 more than a step of k apart, which avoids bank conflicts.
const TILE_STRIDE = K_STEP + 8u;
var<workgroup> a_tile: array<f16, TILE_ROWS * TILE_STRIDE>;
var<workgroup> b_tile: array<f16, TILE_COLUMNS * TILE_STRIDE>;
// Staging of one result matrix per subtile: written by the subgroup that computed it, read by the invocations
// that store it to C.
var<workgroup> results: array<f32, SUBTILES * MATRIX_SIDE * MATRIX_SIDE>;

const SUBTILE_SIDE = 2u * MATRIX_SIDE;
const SUBTILES_ACROSS = TILE_COLUMNS / SUBTILE_SIDE;
// Blocks of 4 x 4 results in a matrix; an invocation stores at most one.
const MATRIX_BLOCKS = MATRIX_SIDE / 4u;
const BLOCKS_PER_MATRIX = MATRIX_BLOCKS * MATRIX_BLOCKS;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    p = uniform_params;
    let rows = valid_count(uniform_params.m, uniform_params.m_per_example, uniform_params.first_example);
    let tiles_n = (uniform_params.n + TILE_COLUMNS - 1u) / TILE_COLUMNS;
    let tile = workgroup_index(group);
    let m = tile / tiles_n * TILE_ROWS;
    let n = tile % tiles_n * TILE_COLUMNS;
    let base = group_bases(group.z);
    let first = split_begin(group.z);
    // No early return and no condition around cooperative operations: naga requires provably uniform control
    // flow.
    let end = select(first, split_end(group.z, total_depth()), m < rows);
    // If a step has no more blocks than the workgroup has invocations, some of them load A and the others B.
    let loads_a = loads_a_block(local);
    let loads_b = loads_b_block(local);
    let a_vector = a_vector_of(local, 0u);
    let b_vector = b_vector_of(local, 0u);
    let k_offset = local % K_BLOCKS * 4u;
    var position = position_at(first + k_offset);
    let a_loader = a_loader_at(base.a, m + 4u * a_vector, rows);
    let b_start = b_block_start(base.b, n + 4u * b_vector);
    var a_next: mat4x4<NumberA>;
    var b_next: mat4x4<NumberB>;
    if (loads_a) {
        a_next = load_a(a_loader, position, end);
    }
    if (loads_b) {
        b_next = load_b(b_start, position, end);
    }
    var sum: array<MatrixC, 4u * SUBTILES_PER_SUBGROUP>;
    for (var k = first; k < end; k += K_STEP) {
        if (loads_a) {
            let rows4 = transpose(a_next);
            for (var i = 0u; i < 4u; i++) { // unroll
                let values = half_a(rows4[i]);
                for (var j = 0u; j < 4u; j++) { // unroll
                    a_tile[(4u * a_vector + i) * TILE_STRIDE + k_offset + j] = values[j];
                }
            }
        }
        if (loads_b) {
            let columns4 = transpose(b_next);
            for (var i = 0u; i < 4u; i++) { // unroll
                let values = half_b(columns4[i]);
                for (var j = 0u; j < 4u; j++) { // unroll
                    b_tile[(4u * b_vector + i) * TILE_STRIDE + k_offset + j] = values[j];
                }
            }
        }
        workgroupBarrier();
        if (k + K_STEP < end) {
            position = position_next(position);
            if (loads_a) {
                a_next = load_a(a_loader, position, end);
            }
            if (loads_b) {
                b_next = load_b(b_start, position, end);
            }
        }
        // Beyond the last k both operands are 0.
        for (var block = 0u; block < MATRICES_PER_STEP; block++) { // unroll
            let k_local = block * MATRIX_SIDE;
            for (var s = 0u; s < SUBTILES_PER_SUBGROUP; s++) { // unroll
                let subtile = subtile_index(subgroup + s * subgroups);
                let a_offset = subtile / SUBTILES_ACROSS * SUBTILE_SIDE * TILE_STRIDE + k_local;
                let b_offset = subtile % SUBTILES_ACROSS * SUBTILE_SIDE * TILE_STRIDE + k_local;
                let a0 = coopLoadT<MatrixA>(&a_tile[a_offset], TILE_STRIDE);
                let a1 = coopLoadT<MatrixA>(&a_tile[a_offset + MATRIX_SIDE * TILE_STRIDE], TILE_STRIDE);
                let b0 = coopLoad<MatrixB>(&b_tile[b_offset], TILE_STRIDE);
                let b1 = coopLoad<MatrixB>(&b_tile[b_offset + MATRIX_SIDE * TILE_STRIDE], TILE_STRIDE);
                sum[4u * s] = coopMultiplyAdd(a0, b0, sum[4u * s]);
                sum[4u * s + 1u] = coopMultiplyAdd(a0, b1, sum[4u * s + 1u]);
                sum[4u * s + 2u] = coopMultiplyAdd(a1, b0, sum[4u * s + 2u]);
                sum[4u * s + 3u] = coopMultiplyAdd(a1, b1, sum[4u * s + 3u]);
            }
        }
        workgroupBarrier();
    }
    // Stores the four matrices of a subtile in turn; after each, the others are shifted down, so that all
    // indices into `sum` are constant.
    for (var quarter = 0u; quarter < 4u; quarter++) {
        for (var s = 0u; s < SUBTILES_PER_SUBGROUP; s++) { // unroll
            let subtile = subtile_index(subgroup + s * subgroups);
            coopStoreT(sum[4u * s], &results[subtile * MATRIX_SIDE * MATRIX_SIDE], MATRIX_SIDE);
            for (var i = 0u; i < 3u; i++) { // unroll
                sum[4u * s + i] = sum[4u * s + i + 1u];
            }
        }
        workgroupBarrier();
        if (local < SUBTILES * BLOCKS_PER_MATRIX) {
            let subtile = local / BLOCKS_PER_MATRIX;
            let row = local % BLOCKS_PER_MATRIX / MATRIX_BLOCKS * 4u;
            let column = local % MATRIX_BLOCKS * 4u;
            var block: Tile;
            for (var i = 0u; i < 4u; i++) { // unroll
                let offset = (subtile * MATRIX_SIDE + row + i) * MATRIX_SIDE + column;
                let values = vec4<f32>(
                    results[offset],
                    results[offset + 1u],
                    results[offset + 2u],
                    results[offset + 3u],
                );
                block[0][i][0] = values * (1.0 / (A_SCALE * B_SCALE));
            }
            let matrix_row = m + subtile / SUBTILES_ACROSS * SUBTILE_SIDE + quarter / 2u * MATRIX_SIDE;
            let matrix_column = n + subtile % SUBTILES_ACROSS * SUBTILE_SIDE + quarter % 2u * MATRIX_SIDE;
            store_tile(&block, base.c, matrix_row + row, matrix_column + column, rows, group.z);
        }
        workgroupBarrier();
    }
}

// If the subgroups are smaller than LANES, there are more subgroups than subtiles; the surplus subgroups
// compute the last subtile again.
fn subtile_index(index: u32) -> u32 {
    return min(index, SUBTILES - 1u);
}
