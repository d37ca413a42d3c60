// Cooperative load of one step of k, TILE_ROWS rows of A and TILE_COLUMNS columns of B, in blocks of 4 x 4
// elements.
const A_VECTORS = TILE_ROWS / 4u;
const B_VECTORS = TILE_COLUMNS / 4u;
const A_BLOCKS = A_VECTORS * (K_STEP / 4u);
const B_BLOCKS = B_VECTORS * (K_STEP / 4u);

// Block of B that an invocation loads: its first k within a step, its vector within the tile, its first
// column, and its position along k. Adjacent invocations load adjacent elements, for row-major and for
// transposed B.
struct BLoader {
    k_offset: u32,
    vector: u32,
    column: u32,
    position: Position,
}

fn b_loader_at(n: u32, first: u32, block: u32) -> BLoader {
    let k_block = select(block / B_VECTORS, block % (K_STEP / 4u), TRANSPOSED_B);
    let vector = select(block % B_VECTORS, block / (K_STEP / 4u), TRANSPOSED_B);
    return BLoader(4u * k_block, vector, n + 4u * vector, position_at(first + 4u * k_block));
}

fn b_loader_next(loader: BLoader) -> BLoader {
    return BLoader(loader.k_offset, loader.vector, loader.column, position_next(loader.position));
}

// Loads rows k .. k+3 of B at columns n .. n+3, where k is relative to `base`. If MASKED, rows from `depth`
// on are 0. Columns beyond the last are undefined; their results are not stored.
fn b_tile_block(base: u32, k: u32, n: u32, depth: u32) -> mat4x4<f32> {
    var stored: mat4x4<f32>;
    for (var i = 0u; i < 4u; i++) { // unroll
        if (TRANSPOSED_B) {
            stored[i] = fetch_b4(base + min(n + i, p.n - 1u) * p.b_stride + k);
        } else {
            let row = select(k + i, min(k + i, depth - 1u), MASKED);
            stored[i] = fetch_b4(base + row * p.b_stride + n);
        }
    }
    if (TRANSPOSED_B) {
        stored = transpose(stored);
    }
    for (var i = 0u; i < 4u; i++) { // unroll
        if (MASKED) {
            stored[i] = select(vec4<f32>(0.0), stored[i], k + i < depth);
        }
    }
    return stored;
}
