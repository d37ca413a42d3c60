// How a workgroup loads a step of k of SIDE rows of A and SIDE columns of B: in blocks of 4 x 4 elements, of which an invocation
// has no more than one of each operand.
const SIDE_VECTORS = SIDE / 4u;
const BLOCKS = SIDE_VECTORS * (K_STEP / 4u);

// Which block of B an invocation loads: its first term in a step, and its vector. Neighbours follow B as it is stored.
struct BLoader {
    term: u32,
    number: u32,
    column: u32,
}

fn b_loader_at(n: u32, block: u32) -> BLoader {
    let across = p.b_transposed != 0u;
    let term = select(block / SIDE_VECTORS, block % (K_STEP / 4u), across);
    let number = select(block % SIDE_VECTORS, block / (K_STEP / 4u), across);
    return BLoader(4u * term, number, n + 4u * number);
}
