// uses: gemm, gemm_loader, scalars, grid, bits

enable f16;
enable wgpu_cooperative_matrix;

// C = op(A) * op(B) by matrix units: operands become f16, sums are f32. A workgroup keeps a tile of SIDE x SIDE results, and a
// step of k of both operands in workgroup memory; a subgroup has SQUARES_EACH squares of it, of 2 x 2 matrices, so that what it
// loads is used twice. While one step is multiplied, the next is on its way from the operands.

// Term by term; 8 more than a tile has, or terms would meet in the same banks.
const LEAD = SIDE + 8u;
var<workgroup> a_tile: array<f16, LEAD * K_STEP>;
var<workgroup> b_tile: array<f16, LEAD * K_STEP>;
// Of each square one matrix of results, on its way from a subgroup to the invocations that store it.
var<workgroup> results: array<f32, SQUARES * MATRIX * MATRIX>;

const SQUARE = 2u * MATRIX;
const SQUARES_ACROSS = SIDE / SQUARE;
// Blocks of 4 x 4 results in a matrix: an invocation stores no more than one.
const PATCHES_ACROSS = MATRIX / 4u;
const PATCHES = PATCHES_ACROSS * PATCHES_ACROSS;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    p = given;
    let rows = live(given.m, given.m_per_row, given.first_row);
    let tiles_n = (given.n + SIDE - 1u) / SIDE;
    let tile = group_number(group);
    let m = tile / tiles_n * SIDE;
    let n = tile % tiles_n * SIDE;
    let at = bases(group.z);
    let first = split_first(group.z);
    // No return and no condition around what a subgroup does together: naga asks for control flow that it knows to be uniform.
    let end = select(first, split_end(group.z, all_terms()), m < rows);
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
    var sum: array<MatrixC, 4u * SQUARES_EACH>;
    for (var k = first; k < end; k += K_STEP) {
        if (loads_a) {
            for (var i = 0u; i < 4u; i++) { // unroll
                let values = to_f16(A_SCALE * a_next[i]);
                for (var j = 0u; j < 4u; j++) { // unroll
                    a_tile[(a_loader.term + i) * LEAD + 4u * a_loader.number + j] = values[j];
                }
            }
        }
        if (loads_b) {
            for (var i = 0u; i < 4u; i++) { // unroll
                let values = to_f16(B_SCALE * b_next[i]);
                for (var j = 0u; j < 4u; j++) { // unroll
                    b_tile[(b_loader.term + i) * LEAD + 4u * b_loader.number + j] = values[j];
                }
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
        // Beyond the last term both operands are 0.
        for (var term = 0u; term < min(K_STEP, end - k); term += MATRIX) {
            for (var s = 0u; s < SQUARES_EACH; s++) { // unroll
                let square = square_of(subgroup + s * subgroups);
                let a_at = term * LEAD + square / SQUARES_ACROSS * SQUARE;
                let b_at = term * LEAD + square % SQUARES_ACROSS * SQUARE;
                let a0 = coopLoad<MatrixA>(&a_tile[a_at], LEAD);
                let a1 = coopLoad<MatrixA>(&a_tile[a_at + MATRIX], LEAD);
                let b0 = coopLoadT<MatrixB>(&b_tile[b_at], LEAD);
                let b1 = coopLoadT<MatrixB>(&b_tile[b_at + MATRIX], LEAD);
                sum[4u * s] = coopMultiplyAdd(a0, b0, sum[4u * s]);
                sum[4u * s + 1u] = coopMultiplyAdd(a0, b1, sum[4u * s + 1u]);
                sum[4u * s + 2u] = coopMultiplyAdd(a1, b0, sum[4u * s + 2u]);
                sum[4u * s + 3u] = coopMultiplyAdd(a1, b1, sum[4u * s + 3u]);
            }
        }
        workgroupBarrier();
    }
    // The matrices of a square one after the other, those not yet stored move up.
    for (var turn = 0u; turn < 4u; turn++) {
        for (var s = 0u; s < SQUARES_EACH; s++) { // unroll
            let square = square_of(subgroup + s * subgroups);
            coopStoreT(sum[4u * s], &results[square * MATRIX * MATRIX], MATRIX);
            for (var i = 0u; i < 3u; i++) { // unroll
                sum[4u * s + i] = sum[4u * s + i + 1u];
            }
        }
        workgroupBarrier();
        if (local < SQUARES * PATCHES) {
            let square = local / PATCHES;
            let row = local % PATCHES / PATCHES_ACROSS * 4u;
            let column = local % PATCHES_ACROSS * 4u;
            var part: Tile;
            for (var i = 0u; i < 4u; i++) { // unroll
                let here = (square * MATRIX + row + i) * MATRIX + column;
                let values = vec4<f32>(results[here], results[here + 1u], results[here + 2u], results[here + 3u]);
                part[0][i][0] = values * (1.0 / (A_SCALE * B_SCALE));
            }
            let first_row = m + square / SQUARES_ACROSS * SQUARE + turn / 2u * MATRIX;
            let first_column = n + square % SQUARES_ACROSS * SQUARE + turn % 2u * MATRIX;
            store_tile(&part, at.c, first_row + row, first_column + column, rows, group.z);
        }
        workgroupBarrier();
    }
}

// Smaller subgroups than expected are more than there are squares: some do the last one again.
fn square_of(number: u32) -> u32 {
    return min(number, SQUARES - 1u);
}

// The nearest that f16 has: what is too large becomes its largest, 65504, so that a finite loss leaves finite weights. By
// bits, so that NaN and infinity stay on every driver.
fn to_f16(x: vec4<f32>) -> vec4<f16> {
    let bits = bitcast<vec4<u32>>(x);
    let size = bits & vec4<u32>(0x7fffffffu);
    let over = (size > vec4<u32>(0x477fe000u)) & (size < vec4<u32>(0x7f800000u));
    let largest = (bits & vec4<u32>(0x80000000u)) | vec4<u32>(0x477fe000u);
    return vec4<f16>(bitcast<vec4<f32>>(select(bits, largest, over)));
}
