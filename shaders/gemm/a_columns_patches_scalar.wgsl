// Transposed A of an implicit GEMM: the columns of op(A) are image patches, with a number of channels that is
// not a multiple of 4. Rows4 locates rows m .. m+3 of op(A), each with its own kernel position and channel:
// row and column in the image, and buffer offset, each relative to a Cursor.
struct Rows4 {
    row: vec4<u32>,
    column: vec4<u32>,
    offset: vec4<u32>,
}

fn a_rows4(base: u32, m: u32) -> Rows4 {
    // Rows beyond the last are clamped to the last row; their results are not stored.
    let element = min(vec4<u32>(m) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.m - 1u));
    let tap = element / p.segment_length;
    // For positions above or left of the image, the unsigned numbers wrap to values far out of range.
    let row = tap / p.kernel_w * p.dilation_h - p.pad_top;
    let column = tap % p.kernel_w * p.dilation_w - p.pad_left;
    return Rows4(row, column, base + (row * p.width + column) * p.a_stride + element % p.segment_length);
}

fn fetch_column4(cursor: Cursor, rows4: Rows4) -> vec4<NumberA> {
    var values: vec4<NumberA>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let inside = (cursor.row + rows4.row[i] < p.height) & (cursor.column + rows4.column[i] < p.width);
        values[i] = select(0.0, fetch_a(select(0u, cursor.offset + rows4.offset[i], inside)), inside);
    }
    return values;
}
