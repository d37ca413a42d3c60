// Cooperative load of one step of k, SIDE rows of A and SIDE columns of B, in blocks of 4 x 4 elements; an
// invocation loads at most one block of each operand.
const SIDE_VECTORS = SIDE / 4u;
const BLOCKS = SIDE_VECTORS * (K_STEP / 4u);

// Block of B that an invocation loads: its first k within a step, its vector within the tile, and its first
// column. Adjacent invocations load adjacent elements, for row-major and for transposed B.
struct BLoader {
    k_offset: u32,
    vector: u32,
    column: u32,
}

fn b_loader_at(n: u32, block: u32) -> BLoader {
    let transposed = p.b_transposed != 0u;
    let k_block = select(block / SIDE_VECTORS, block % (K_STEP / 4u), transposed);
    let vector = select(block % SIDE_VECTORS, block / (K_STEP / 4u), transposed);
    return BLoader(4u * k_block, vector, n + 4u * vector);
}
