// Transposed A of an implicit GEMM (weight gradients): column k of op(A) is the image patch under output
// pixel k. A Cursor is the buffer offset of the image and the top-left corner of that patch, counted from the
// edge of the padding.
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

// Moves a cursor from output pixel k - by to output pixel k. If an output row has at least `by` pixels, this
// avoids the divisions of a_cursor.
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

// Cursor of the output pixel `by` after this one, on the same line.
fn a_neighbor(cursor: Cursor, by: u32) -> Cursor {
    return Cursor(cursor.image, cursor.row, cursor.column + by * p.stride_w);
}
