// A by columns: four rows of four columns; neighbours have the rows that follow.
struct ALoader {
    cursor: array<Cursor, 4>,
    row: Term,
    term: u32,
    number: u32,
}

fn all_terms() -> u32 {
    return live_depth();
}

fn a_loader_at(base: u32, m: u32, rows: u32, first: u32, block: u32) -> ALoader {
    var loader: ALoader;
    loader.term = block / SIDE_VECTORS * 4u;
    loader.number = block % SIDE_VECTORS;
    loader.row = a_term(m + 4u * loader.number);
    for (var i = 0u; i < 4u; i++) { // unroll
        loader.cursor[i] = a_cursor(base, first + loader.term + i);
    }
    return loader;
}

// The loader goes on to the next step.
fn load_a(loader: ptr<function, ALoader>, base: u32, k: u32, end: u32) -> mat4x4<f32> {
    var stored: mat4x4<f32>;
    let term = k + (*loader).term;
    for (var i = 0u; i < 4u; i++) { // unroll
        let values = fetch_column4((*loader).cursor[i], (*loader).row);
        stored[i] = select(vec4<f32>(0.0), values, term + i < end);
        (*loader).cursor[i] = a_advance((*loader).cursor[i], base, term + K_STEP + i, K_STEP);
    }
    return stored;
}

fn load_b(loader: BLoader, base: u32, k: u32, end: u32) -> mat4x4<f32> {
    return b_quad(base, k + loader.term, loader.column, end);
}
