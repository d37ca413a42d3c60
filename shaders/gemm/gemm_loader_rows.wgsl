// Loader for row-major A: a block is loaded as four rows, each a vec4 along k, and then transposed. k runs
// over all segments (kernel positions).
alias ALoader = array<RowOrigin, 4>;

// A k: its offset within its segment, the distance of the segment's kernel position from the first one, in
// rows and columns of the image, and the distances in A and B from the element of the first k. Steps of k
// advance all of them without multiplications.
struct Position {
    k: u32,
    offset: u32,
    down: u32,
    right: u32,
    a: u32,
    b: u32,
}

fn position_at(k: u32) -> Position {
    let tap = k / p.segment_length;
    let offset = k % p.segment_length;
    let down = tap / p.kernel_w * p.dilation_h;
    let right = tap % p.kernel_w * p.dilation_w;
    let b = tap * p.b_segment_stride + tap / p.kernel_w * p.b_kernel_row_stride + offset * p.b_k_stride;
    return Position(k, offset, down, right, (down * p.width + right) * p.a_stride + offset, b);
}

fn next_segment(position: Position) -> Position {
    var next = position;
    next.offset -= p.segment_length;
    next.right += p.dilation_w;
    next.a += p.a_segment_step;
    next.b += p.b_segment_step;
    let row_ends = next.right == p.kernel_row_end;
    next.right = select(next.right, 0u, row_ends);
    next.down += select(0u, p.dilation_h, row_ends);
    next.a += select(0u, p.a_kernel_row_step, row_ends);
    next.b += select(0u, p.b_kernel_row_stride, row_ends);
    return next;
}

fn position_next(position: Position) -> Position {
    var next = position;
    next.k += K_STEP;
    next.offset += K_STEP;
    next.a += K_STEP;
    next.b += p.b_step;
    if (SHORT_SEGMENTS) {
        while (next.offset >= p.segment_length) {
            next = next_segment(next);
        }
    } else if (next.offset >= p.segment_length) {
        next = next_segment(next);
    }
    return next;
}

fn total_depth() -> u32 {
    return uniform_params.k * uniform_params.kernel_h * uniform_params.kernel_w;
}

fn a_loader_at(base: u32, m: u32, rows: u32) -> ALoader {
    var loader: ALoader;
    for (var i = 0u; i < 4u; i++) { // unroll
        loader[i] = a_row_origin(base, min(m + i, rows - 1u));
    }
    return loader;
}

fn load_a(loader: ALoader, position: Position, end: u32) -> mat4x4<NumberA> {
    var stored: mat4x4<NumberA>;
    if ((position.k < end) | WHOLE_STEPS) {
        for (var i = 0u; i < 4u; i++) { // unroll
            stored[i] = fetch_patch4(loader[i], position.down, position.right, position.a);
        }
    }
    return transpose(stored);
}

fn load_b(start: u32, position: Position, end: u32) -> mat4x4<NumberB> {
    var stored: mat4x4<NumberB>;
    if ((position.k < end) | WHOLE_STEPS) {
        stored = b_tile_block(start + position.b, position.offset, p.k);
    }
    return stored;
}
