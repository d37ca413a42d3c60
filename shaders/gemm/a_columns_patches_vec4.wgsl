// Transposed A of an implicit GEMM: the columns of op(A) are image patches, with a number of channels that is
// a multiple of 4. Rows4 locates rows m .. m+3 of op(A): four adjacent channels of one kernel position.
struct Rows4 {
    row: u32,
    column: u32,
    channel: u32,
}

fn a_rows4(m: u32) -> Rows4 {
    // Rows beyond the last are clamped to the last row; their results are not stored.
    let row = min(m, p.m - 1u);
    let tap = row / p.segment_length;
    return Rows4(tap / p.kernel_w * p.dilation_h, tap % p.kernel_w * p.dilation_w, row % p.segment_length);
}

fn fetch_column4(cursor: Cursor, rows4: Rows4) -> vec4<f32> {
    let h = cursor.row + rows4.row - p.pad_top;
    let w = cursor.column + rows4.column - p.pad_left;
    let inside = (h < p.height) & (w < p.width);
    let offset = cursor.image + (h * p.width + w) * p.a_stride + rows4.channel;
    return select(vec4<f32>(0.0), fetch_a4(select(0u, offset, inside)), inside);
}
