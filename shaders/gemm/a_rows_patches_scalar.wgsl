// Row-major A of an implicit GEMM: row r is the image patch under output pixel r, with a number of channels
// that is not a multiple of 4. k runs over kernel positions and channels in a single segment, and each
// element is located separately. KERNEL_W and CHANNELS are constants, because division by a constant is fast.
// RowOrigin is the buffer offset of the image and the top-left corner of a patch, counted from the edge of
// the padding.
struct RowOrigin {
    image: u32,
    row: u32,
    column: u32,
}

alias SegmentStart = RowOrigin;

fn a_row_origin(base: u32, row: u32) -> RowOrigin {
    let pixel = pixel_of(row);
    let output_row = pixel / p.out_width;
    let image = output_row / p.out_height * p.height * p.width * p.a_stride;
    return RowOrigin(base + image, output_row % p.out_height * p.stride_h, pixel % p.out_width * p.stride_w);
}

fn a_segment(origin: RowOrigin, kernel_row: u32, kernel_column: u32) -> SegmentStart {
    return origin;
}

// Elements beyond the last k are 0, so that no tail loop is needed.
fn fetch_row4(start: SegmentStart, k: u32) -> vec4<f32> {
    var values: vec4<f32>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let tap = (k + i) / CHANNELS;
        let h = start.row + tap / KERNEL_W * p.dilation_h - p.pad_top;
        let w = start.column + tap % KERNEL_W * p.dilation_w - p.pad_left;
        let inside = (h < p.height) & (w < p.width) & (k + i < p.k);
        let offset = select(0u, start.image + (h * p.width + w) * p.a_stride + (k + i) % CHANNELS, inside);
        values[i] = select(0.0, fetch_a(offset), inside);
    }
    return values;
}
