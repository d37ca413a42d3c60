// Moves a cursor of a matrix by one step of k.
fn a_step(cursor: Cursor) -> Cursor {
    return cursor + K_STEP * p.a_stride;
}
