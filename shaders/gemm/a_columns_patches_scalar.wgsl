// Transposed A of an implicit GEMM: the columns of op(A) are image patches, with a number of channels that is
// not a multiple of 4. Rows4 locates rows m .. m+3 of op(A), each with its own kernel position and channel.
struct Rows4 {
    row: vec4<u32>,
    column: vec4<u32>,
    channel: vec4<u32>,
}

fn a_rows4(m: u32) -> Rows4 {
    // Rows beyond the last are clamped to the last row; their results are not stored.
    let row = min(vec4<u32>(m) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.m - 1u));
    let tap = row / p.segment_length;
    return Rows4(tap / p.kernel_w * p.dilation_h, tap % p.kernel_w * p.dilation_w, row % p.segment_length);
}

fn fetch_column4(cursor: Cursor, rows4: Rows4) -> vec4<f32> {
    var values: vec4<f32>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let h = cursor.row + rows4.row[i] - p.pad_top;
        let w = cursor.column + rows4.column[i] - p.pad_left;
        let inside = (h < p.height) & (w < p.width);
        let offset = select(0u, cursor.image + (h * p.width + w) * p.a_stride + rows4.channel[i], inside);
        values[i] = select(0.0, fetch_a(offset), inside);
    }
    return values;
}
