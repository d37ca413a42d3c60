// A is a matrix stored transposed: a cursor is a stored row, a term a place in it.
alias Cursor = u32;
alias Term = u32;

fn a_cursor(base: u32, k: u32) -> Cursor {
    return base + k * p.a_stride;
}

fn a_advance(cursor: Cursor, base: u32, k: u32, by: u32) -> Cursor {
    return cursor + by * p.a_stride;
}

fn a_term(m: u32) -> Term {
    return m;
}

fn fetch_column4(cursor: Cursor, term: Term) -> vec4<f32> {
    return fetch_a4(cursor + term);
}
