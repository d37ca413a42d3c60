// Transposed A in memory, stored as [k, m]. A Cursor is the buffer offset of stored row k; Rows4 is the index
// of the first of four consecutive rows of op(A).
alias Cursor = u32;
alias Rows4 = u32;

fn a_cursor(base: u32, k: u32) -> Cursor {
    return base + k * p.a_stride;
}

fn a_advance(cursor: Cursor, base: u32, k: u32, by: u32) -> Cursor {
    return cursor + by * p.a_stride;
}

fn a_neighbor(cursor: Cursor, by: u32) -> Cursor {
    return cursor + by * p.a_stride;
}

fn a_rows4(base: u32, m: u32) -> Rows4 {
    return base + m;
}

fn fetch_column4(cursor: Cursor, rows4: Rows4) -> vec4<NumberA> {
    return fetch_a4(cursor + rows4);
}
