// A is a matrix stored transposed, [k, m]: a Cursor is the offset of stored row k, Rows4 is the first of four
// rows of A.
alias Cursor = u32;
alias Rows4 = u32;

fn a_cursor(base: u32, k: u32) -> Cursor {
    return base + k * p.a_stride;
}

fn a_advance(cursor: Cursor, base: u32, k: u32, by: u32) -> Cursor {
    return cursor + by * p.a_stride;
}

fn a_rows4(m: u32) -> Rows4 {
    return m;
}

fn fetch_column4(cursor: Cursor, rows4: Rows4) -> vec4<f32> {
    return fetch_a4(cursor + rows4);
}
