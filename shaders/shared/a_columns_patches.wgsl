// Four elements of a patch: a term is a tap and the first of four channels.
struct Term {
    row: u32,
    column: u32,
    channel: u32,
}

fn a_term(m: u32) -> Term {
    // Rows beyond the last are anything: their results are not stored.
    let row = min(m, p.m - 1u);
    let tap = row / p.segment;
    return Term(tap / p.kernel_w * p.dilation_h, tap % p.kernel_w * p.dilation_w, row % p.segment);
}

fn fetch_column4(cursor: Cursor, term: Term) -> vec4<f32> {
    let h = cursor.row + term.row;
    let w = cursor.column + term.column;
    let inside = row_inside(h) && column_inside(w);
    let pixel = (h - p.pad_top) * p.width + w - p.pad_left;
    return select(vec4<f32>(0.0), fetch_a4(select(0u, cursor.image + pixel * p.a_stride + term.channel, inside)), inside);
}

fn one_a(base: u32, row: u32, k: u32) -> f32 {
    var term = a_term(row & ~3u);
    return fetch_column4(a_cursor(base, k), term)[row & 3u];
}
