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
    let h = cursor.row + term.row - p.pad_top;
    let w = cursor.column + term.column - p.pad_left;
    let inside = (h < p.height) & (w < p.width);
    let at = cursor.image + (h * p.width + w) * p.a_stride + term.channel;
    return select(vec4<f32>(0.0), fetch_a4(select(0u, at, inside)), inside);
}
