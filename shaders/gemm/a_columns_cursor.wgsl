// Transposed A of an implicit GEMM (weight gradients): column k of op(A) is the image patch under output
// pixel k. A Cursor is the buffer offset of the top-left element of that patch, which may lie in the padding,
// and its row and column, counted from the edge of the padding.
struct Cursor {
    offset: u32,
    row: u32,
    column: u32,
}

fn a_cursor(base: u32, k: u32) -> Cursor {
    let pixel = p.k_begin + k;
    let output_row = pixel / p.out_width;
    let row = output_row % p.out_height * p.stride_h;
    let column = pixel % p.out_width * p.stride_w;
    let line = output_row / p.out_height * p.height + row;
    return Cursor(base + (line * p.width + column) * p.a_stride, row, column);
}

// Moves a cursor from output pixel k - by to output pixel k. If an output row has at least `by` pixels, this
// avoids the divisions of a_cursor.
fn a_advance(cursor: Cursor, base: u32, k: u32, by: u32) -> Cursor {
    var next = cursor;
    if (p.out_width < by) {
        next = a_cursor(base, k);
    } else {
        next.column += by * p.stride_w;
        next.offset += by * p.stride_w * p.a_stride;
        if (next.column >= p.out_width * p.stride_w) {
            next.column -= p.out_width * p.stride_w;
            next.row += p.stride_h;
            next.offset += (p.stride_h * p.width - p.out_width * p.stride_w) * p.a_stride;
            if (next.row >= p.out_height * p.stride_h) {
                next.row = 0u;
                next.offset += (p.height - p.out_height * p.stride_h) * p.width * p.a_stride;
            }
        }
    }
    return next;
}

// Cursor of the output pixel `by` after this one, on the same line.
fn a_neighbor(cursor: Cursor, by: u32) -> Cursor {
    return Cursor(cursor.offset + by * p.stride_w * p.a_stride, cursor.row, cursor.column + by * p.stride_w);
}
