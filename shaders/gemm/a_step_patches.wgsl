// Moves a cursor of an implicit GEMM by one step of k, whose images, lines and pixels are parameters, so that
// it needs no divisions.
fn a_step(cursor: Cursor) -> Cursor {
    var next = cursor;
    next.column += p.step_columns;
    let line_ends = next.column >= p.out_width * p.stride_w;
    next.column -= select(0u, p.out_width * p.stride_w, line_ends);
    next.row += p.step_rows + select(0u, p.stride_h, line_ends);
    let image_ends = next.row >= p.out_height * p.stride_h;
    next.row -= select(0u, p.out_height * p.stride_h, image_ends);
    next.image += p.step_images + select(0u, p.height * p.width * p.a_stride, image_ends);
    return next;
}
