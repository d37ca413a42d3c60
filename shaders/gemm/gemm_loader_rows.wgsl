// Loader for row-major A: a block is loaded as four rows, each a vec4 along k, and then transposed. Adjacent
// invocations load adjacent k. k runs over all segments (kernel positions).
struct ALoader {
    origin: array<RowOrigin, 4>,
    k_offset: u32,
    vector: u32,
    position: Position,
}

// A k: the kernel position (tap) of its segment, and the offset within the segment. Steps of k advance it
// without divisions.
struct Position {
    k: u32,
    kernel_row: u32,
    kernel_column: u32,
    offset: u32,
}

fn position_at(k: u32) -> Position {
    let tap = k / p.segment_length;
    return Position(k, tap / p.kernel_w, tap % p.kernel_w, k % p.segment_length);
}

fn position_next(position: Position) -> Position {
    var next = position;
    next.k += K_STEP;
    next.offset += K_STEP;
    while (next.offset >= p.segment_length) {
        next.offset -= p.segment_length;
        next.kernel_column += 1u;
        let row_ends = next.kernel_column == p.kernel_w;
        next.kernel_column = select(next.kernel_column, 0u, row_ends);
        next.kernel_row += u32(row_ends);
    }
    return next;
}

fn total_depth() -> u32 {
    return uniform_params.k * uniform_params.kernel_h * uniform_params.kernel_w;
}

fn a_loader_at(base: u32, m: u32, rows: u32, first: u32, block: u32) -> ALoader {
    var loader: ALoader;
    loader.k_offset = block % (K_STEP / 4u) * 4u;
    loader.vector = block / (K_STEP / 4u);
    loader.position = position_at(first + loader.k_offset);
    for (var i = 0u; i < 4u; i++) { // unroll
        loader.origin[i] = a_row_origin(base, min(m + 4u * loader.vector + i, rows - 1u));
    }
    return loader;
}

fn a_loader_next(loader: ALoader) -> ALoader {
    var next = loader;
    next.position = position_next(loader.position);
    return next;
}

fn load_a(loader: ALoader, end: u32) -> mat4x4<f32> {
    var stored: mat4x4<f32>;
    if (loader.position.k < end) {
        for (var i = 0u; i < 4u; i++) { // unroll
            let start = a_segment(loader.origin[i], loader.position.kernel_row, loader.position.kernel_column);
            stored[i] = fetch_row4(start, loader.position.offset);
        }
    }
    return transpose(stored);
}

fn load_b(loader: BLoader, base: u32, end: u32) -> mat4x4<f32> {
    var stored: mat4x4<f32>;
    if (loader.position.k < end) {
        let tap = loader.position.kernel_row * p.kernel_w + loader.position.kernel_column;
        let segment = tap * p.b_segment_stride + loader.position.kernel_row * p.b_kernel_row_stride;
        stored = b_tile_block(base + segment, loader.position.offset, loader.column, p.k);
    }
    return stored;
}
