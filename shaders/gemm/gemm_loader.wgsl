// Cooperative load of one step of k, TILE_ROWS rows of A and TILE_COLUMNS columns of B, in blocks of 4 x 4
// elements. Block i has the k of block i % K_BLOCKS. The size of the workgroup is a multiple of K_BLOCKS, so
// that all blocks that an invocation loads have the same k, and need only one Position.
const A_VECTORS = TILE_ROWS / 4u;
const B_VECTORS = TILE_COLUMNS / 4u;
const K_BLOCKS = K_STEP / 4u;
const A_BLOCKS = A_VECTORS * K_BLOCKS;
const B_BLOCKS = B_VECTORS * K_BLOCKS;

// Whether an invocation loads a block: the first invocations load A, the last ones B.
fn loads_a_block(local: u32) -> bool {
    return (A_BLOCKS >= WORKGROUP) | (local < A_BLOCKS);
}

fn loads_b_block(local: u32) -> bool {
    return (B_BLOCKS >= WORKGROUP) | (local >= WORKGROUP - min(B_BLOCKS, WORKGROUP));
}

// Vector (four rows of A, or four columns of B) of the block that an invocation loads in round i.
fn a_vector_of(local: u32, i: u32) -> u32 {
    return (local + i * WORKGROUP) % A_BLOCKS / K_BLOCKS;
}

fn b_vector_of(local: u32, i: u32) -> u32 {
    return (local + i * WORKGROUP) % B_BLOCKS / K_BLOCKS;
}

// Offset in B of columns n .. n+3 at the first k.
fn b_block_start(base: u32, n: u32) -> u32 {
    return base + n * select(1u, p.b_stride, TRANSPOSED_B);
}

// Loads rows k .. k+3 of B at four columns, of which `index` is the first element. If MASKED, rows from
// `depth` on are 0. Columns beyond the last are undefined; their results are not stored.
fn b_tile_block(index: u32, k: u32, depth: u32) -> mat4x4<NumberB> {
    var stored: mat4x4<NumberB>;
    var element = index;
    for (var i = 0u; i < 4u; i++) { // unroll
        stored[i] = fetch_b4(element);
        element += p.b_stride;
    }
    if (TRANSPOSED_B) {
        stored = transpose(stored);
    }
    for (var i = 0u; i < 4u; i++) { // unroll
        if (MASKED) {
            stored[i] = select(vec4<NumberB>(0.0), stored[i], k + i < depth);
        }
    }
    return stored;
}
