// Loader for transposed A: a block is loaded as four columns of op(A), four rows each. CURSORS is 1 if the
// four columns are adjacent pixels of one line, and 4 otherwise.
alias ALoader = Rows4;

// A k, which has a single segment, with its columns of op(A) and the distance in B from the first k.
struct Position {
    k: u32,
    b: u32,
    cursor: array<Cursor, CURSORS>,
}

fn position_at(k: u32) -> Position {
    var position: Position;
    position.k = k;
    position.b = k * p.b_k_stride;
    for (var i = 0u; i < CURSORS; i++) { // unroll
        position.cursor[i] = a_cursor(0u, k + i);
    }
    return position;
}

fn position_next(position: Position) -> Position {
    var next = position;
    next.k += K_STEP;
    next.b += p.b_step;
    for (var i = 0u; i < CURSORS; i++) { // unroll
        next.cursor[i] = a_step(position.cursor[i]);
    }
    return next;
}

fn total_depth() -> u32 {
    return valid_depth();
}

fn a_loader_at(base: u32, m: u32, rows: u32) -> ALoader {
    return a_rows4(base, m);
}

fn load_a(loader: ALoader, position: Position, end: u32) -> mat4x4<NumberA> {
    var stored: mat4x4<NumberA>;
    for (var i = 0u; i < 4u; i++) { // unroll
        stored[i] = fetch_column4(a_neighbor(position.cursor[i % CURSORS], i - i % CURSORS), loader);
        if (!WHOLE_STEPS) {
            stored[i] = select(vec4<NumberA>(0.0), stored[i], position.k + i < end);
        }
    }
    return stored;
}

fn load_b(start: u32, position: Position, end: u32) -> mat4x4<NumberB> {
    return b_tile_block(start + position.b, position.k, end);
}
