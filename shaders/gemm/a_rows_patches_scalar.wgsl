// Row-major A of an implicit GEMM: row r is the image patch under output pixel r, with a number of channels
// that is not a multiple of 4. k runs over kernel positions and channels in a single segment, and each
// element is located separately. KERNEL_W and CHANNELS are constants, because division by a constant is fast.
// RowOrigin is the buffer offset and the position of the top-left element of a patch, which may lie in the
// padding.
struct RowOrigin {
    offset: u32,
    row: u32,
    column: u32,
}

alias SegmentStart = RowOrigin;

fn a_row_origin(base: u32, r: u32) -> RowOrigin {
    let pixel = pixel_of(r);
    let output_row = pixel / p.out_width;
    let image = output_row / p.out_height * p.height * p.width * p.a_stride;
    // For positions above or left of the image, the unsigned numbers wrap to values far out of range.
    let row = output_row % p.out_height * p.stride_h - p.pad_top;
    let column = pixel % p.out_width * p.stride_w - p.pad_left;
    return RowOrigin(base + image + (row * p.width + column) * p.a_stride, row, column);
}

fn a_segment(origin: RowOrigin, kernel_row: u32, kernel_column: u32) -> SegmentStart {
    return origin;
}

// Elements beyond the last k are 0, so that no tail loop is needed.
fn fetch_row4(start: SegmentStart, k: u32) -> vec4<NumberA> {
    var values: vec4<NumberA>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let tap = (k + i) / CHANNELS;
        let down = tap / KERNEL_W * p.dilation_h;
        let right = tap % KERNEL_W * p.dilation_w;
        let inside = (start.row + down < p.height) & (start.column + right < p.width) & (k + i < p.k);
        // The same for all rows.
        let distance = (down * p.width + right) * p.a_stride + (k + i) % CHANNELS;
        values[i] = select(0.0, fetch_a(select(0u, start.offset + distance, inside)), inside);
    }
    return values;
}

fn fetch_patch4(origin: RowOrigin, down: u32, right: u32, offset: u32) -> vec4<NumberA> {
    return fetch_row4(origin, offset);
}
