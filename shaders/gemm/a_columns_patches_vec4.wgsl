// Transposed A of an implicit GEMM: the columns of op(A) are image patches, with a number of channels that is
// a multiple of 4. Rows4 locates rows m .. m+3 of op(A), four adjacent channels of one kernel position: row
// and column in the image, and buffer offset, each relative to a Cursor.
struct Rows4 {
    row: u32,
    column: u32,
    offset: u32,
}

fn a_rows4(base: u32, m: u32) -> Rows4 {
    // Rows beyond the last are clamped to the last row; their results are not stored.
    let element = min(m, p.m - 1u);
    let tap = element / p.segment_length;
    // For positions above or left of the image, the unsigned numbers wrap to values far out of range.
    let row = tap / p.kernel_w * p.dilation_h - p.pad_top;
    let column = tap % p.kernel_w * p.dilation_w - p.pad_left;
    return Rows4(row, column, base + (row * p.width + column) * p.a_stride + element % p.segment_length);
}

fn fetch_column4(cursor: Cursor, rows4: Rows4) -> vec4<NumberA> {
    let inside = (cursor.row + rows4.row < p.height) & (cursor.column + rows4.column < p.width);
    return select(vec4<NumberA>(0.0), fetch_a4(select(0u, cursor.offset + rows4.offset, inside)), inside);
}
