// A is transposed and its column k is the image patch under output pixel k. A Cursor is the top-left corner
// of that patch, before padding is subtracted.
struct Cursor {
    image: u32,
    row: u32,
    column: u32,
}

fn a_cursor(base: u32, k: u32) -> Cursor {
    let pixel = p.k_begin + k;
    let output_row = pixel / p.out_width;
    let image = output_row / p.out_height * p.height * p.width * p.a_stride;
    return Cursor(base + image, output_row % p.out_height * p.stride_h, pixel % p.out_width * p.stride_w);
}

// Moves a cursor from k - by to k; if a row has at least `by` pixels, without the divisions of a_cursor.
fn a_advance(cursor: Cursor, base: u32, k: u32, by: u32) -> Cursor {
    var next = cursor;
    if (p.out_width < by) {
        next = a_cursor(base, k);
    } else {
        next.column += by * p.stride_w;
        if (next.column >= p.out_width * p.stride_w) {
            next.column -= p.out_width * p.stride_w;
            next.row += p.stride_h;
            if (next.row >= p.out_height * p.stride_h) {
                next.row = 0u;
                next.image += p.height * p.width * p.a_stride;
            }
        }
    }
    return next;
}
