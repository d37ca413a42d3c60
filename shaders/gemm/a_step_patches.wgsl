// Moves a cursor of an implicit GEMM by one step of k, without divisions and multiplications: the distances
// are parameters.
fn a_step(cursor: Cursor) -> Cursor {
    var next = cursor;
    next.column += p.step_columns;
    let line_ends = next.column >= p.line_columns;
    next.column -= select(0u, p.line_columns, line_ends);
    next.row += p.step_rows + select(0u, p.stride_h, line_ends);
    next.offset += p.step_offset + select(0u, p.line_end_offset, line_ends);
    let image_ends = next.row >= p.image_rows;
    next.row -= select(0u, p.image_rows, image_ends);
    next.offset += select(0u, p.image_end_offset, image_ends);
    return next;
}
