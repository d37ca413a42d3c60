// Row-major A of an implicit GEMM: row r is the image patch under output pixel r. A segment of k is one
// kernel position with all its channels, whose number is a multiple of 4. For an input gradient
// (Source::Gradients) the images are dy, r is an input pixel, and dilation and padding are negated. RowOrigin
// is the buffer offset and the position of the top-left element of a patch, which may lie in the padding.
struct RowOrigin {
    offset: u32,
    row: u32,
    column: u32,
}

// SegmentStart of a segment that lies in the padding.
const PADDING = 0xffffffffu;

fn a_row_origin(base: u32, r: u32) -> RowOrigin {
    let pixel = pixel_of(r);
    let output_row = pixel / p.out_width;
    let image = output_row / p.out_height * p.height * p.width * p.a_stride;
    // For positions above or left of the image, the unsigned numbers wrap to values far out of range.
    let row = output_row % p.out_height * p.stride_h - p.pad_top;
    let column = pixel % p.out_width * p.stride_w - p.pad_left;
    return RowOrigin(base + image + (row * p.width + column) * p.a_stride, row, column);
}

// Offset of the first element of a segment.
alias SegmentStart = u32;

fn a_segment(origin: RowOrigin, kernel_row: u32, kernel_column: u32) -> SegmentStart {
    let down = kernel_row * p.dilation_h;
    let right = kernel_column * p.dilation_w;
    let inside = (origin.row + down < p.height) & (origin.column + right < p.width);
    return select(PADDING, origin.offset + (down * p.width + right) * p.a_stride, inside);
}

fn fetch_row4(start: SegmentStart, k: u32) -> vec4<NumberA> {
    let inside = start != PADDING;
    return select(vec4<NumberA>(0.0), fetch_a4(select(0u, start + k, inside)), inside);
}

// Loads four elements of a row at the kernel position `down` and `right` of the first one; `offset` is their
// distance from the first element of the patch.
fn fetch_patch4(origin: RowOrigin, down: u32, right: u32, offset: u32) -> vec4<NumberA> {
    let inside = (origin.row + down < p.height) & (origin.column + right < p.width);
    return select(vec4<NumberA>(0.0), fetch_a4(select(0u, origin.offset + offset, inside)), inside);
}
