// Column k of A is the patch of images under output pixel k: a cursor is that pixel.
struct Cursor {
    image: u32,
    row: u32,
    column: u32,
}

fn a_cursor(base: u32, k: u32) -> Cursor {
    let pixel = p.k_first + k;
    let line = pixel / p.out_width;
    let image = line / p.out_height * p.height * p.width * p.a_stride;
    return Cursor(base + image, line % p.out_height * p.stride_h, pixel % p.out_width * p.stride_w);
}

// The cursor at k from the one at k - by. Divisions are slow: a wide map needs none.
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
