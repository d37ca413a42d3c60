// A is a matrix stored by rows, [m, k]: a single segment of k.
struct RowOrigin {
    start: u32,
}

// Offset at which a segment begins.
alias SegmentStart = u32;

fn a_row_origin(base: u32, row: u32) -> RowOrigin {
    return RowOrigin(base + row * p.a_stride);
}

fn a_segment(origin: RowOrigin, kernel_row: u32, kernel_column: u32) -> SegmentStart {
    return origin.start;
}

fn fetch_row4(start: SegmentStart, k: u32) -> vec4<f32> {
    let values = fetch_a4(start + k);
    // 0 beyond the last k, so that there is no tail loop.
    let inside = vec4<u32>(k) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.k);
    return select(values, vec4<f32>(0.0), vec4<bool>(MASKED) & !inside);
}
