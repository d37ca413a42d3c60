// Loader for transposed A: a block is loaded as four columns of op(A), four rows each. Adjacent invocations
// load adjacent rows.
struct ALoader {
    cursor: array<Cursor, 4>,
    rows4: Rows4,
    k_offset: u32,
    vector: u32,
}

fn total_depth() -> u32 {
    return valid_depth();
}

fn a_loader_at(base: u32, m: u32, rows: u32, first: u32, block: u32) -> ALoader {
    var loader: ALoader;
    loader.k_offset = block / SIDE_VECTORS * 4u;
    loader.vector = block % SIDE_VECTORS;
    loader.rows4 = a_rows4(m + 4u * loader.vector);
    for (var i = 0u; i < 4u; i++) { // unroll
        loader.cursor[i] = a_cursor(base, first + loader.k_offset + i);
    }
    return loader;
}

// Loads a block, and advances the loader to the next step.
fn load_a(loader: ptr<function, ALoader>, base: u32, k: u32, end: u32) -> mat4x4<f32> {
    var stored: mat4x4<f32>;
    let k_index = k + (*loader).k_offset;
    for (var i = 0u; i < 4u; i++) { // unroll
        let values = fetch_column4((*loader).cursor[i], (*loader).rows4);
        stored[i] = select(vec4<f32>(0.0), values, k_index + i < end);
        (*loader).cursor[i] = a_advance((*loader).cursor[i], base, k_index + K_STEP + i, K_STEP);
    }
    return stored;
}

fn load_b(loader: BLoader, base: u32, k: u32, end: u32) -> mat4x4<f32> {
    return b_quad(base, k + loader.k_offset, loader.column, end);
}
