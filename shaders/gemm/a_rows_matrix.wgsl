// Row-major A in memory, [m, k]. k is a single segment; in an implicit GEMM, each kernel position is a
// segment.
struct RowOrigin {
    start: u32,
}

// Offset of the first element of a segment.
alias SegmentStart = u32;

fn a_row_origin(base: u32, row: u32) -> RowOrigin {
    return RowOrigin(base + row * p.a_stride);
}

fn a_segment(origin: RowOrigin, kernel_row: u32, kernel_column: u32) -> SegmentStart {
    return origin.start;
}

fn fetch_row4(start: SegmentStart, k: u32) -> vec4<NumberA> {
    let values = fetch_a4(start + k);
    // Elements beyond the last k are 0, so that no tail loop is needed.
    let inside = vec4<u32>(k) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.k);
    return select(values, vec4<NumberA>(0.0), vec4<bool>(MASKED) & !inside);
}

fn fetch_patch4(origin: RowOrigin, down: u32, right: u32, offset: u32) -> vec4<NumberA> {
    return fetch_row4(origin.start, offset);
}
