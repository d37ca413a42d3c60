// Loader for transposed A: a block is loaded as four columns of op(A), four rows each. Adjacent invocations
// load adjacent rows. CURSORS is 1 if the four columns are adjacent pixels of one line, and 4 otherwise.
struct ALoader {
    cursor: array<Cursor, CURSORS>,
    rows4: Rows4,
    k_offset: u32,
    vector: u32,
    position: Position,
}

// A k. For transposed A, k has a single segment.
alias Position = u32;

fn position_at(k: u32) -> Position {
    return k;
}

fn position_next(position: Position) -> Position {
    return position + K_STEP;
}

fn total_depth() -> u32 {
    return valid_depth();
}

fn a_loader_at(base: u32, m: u32, rows: u32, first: u32, block: u32) -> ALoader {
    var loader: ALoader;
    loader.k_offset = block / A_VECTORS * 4u;
    loader.vector = block % A_VECTORS;
    loader.rows4 = a_rows4(m + 4u * loader.vector);
    loader.position = first + loader.k_offset;
    for (var i = 0u; i < CURSORS; i++) { // unroll
        loader.cursor[i] = a_cursor(base, loader.position + i);
    }
    return loader;
}

fn a_loader_next(loader: ALoader) -> ALoader {
    var next = loader;
    next.position = position_next(loader.position);
    for (var i = 0u; i < CURSORS; i++) { // unroll
        next.cursor[i] = a_step(loader.cursor[i]);
    }
    return next;
}

fn load_a(loader: ALoader, end: u32) -> mat4x4<f32> {
    var stored: mat4x4<f32>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let cursor = a_neighbor(loader.cursor[i % CURSORS], i - i % CURSORS);
        let values = fetch_column4(cursor, loader.rows4);
        stored[i] = select(vec4<f32>(0.0), values, loader.position + i < end);
    }
    return stored;
}

fn load_b(loader: BLoader, base: u32, end: u32) -> mat4x4<f32> {
    return b_tile_block(base, loader.position, loader.column, end);
}
