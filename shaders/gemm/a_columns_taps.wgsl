// Four elements of a patch, each with a tap and a channel of its own, for channels that are no multiple of 4.
struct Term {
    row: vec4<u32>,
    column: vec4<u32>,
    channel: vec4<u32>,
}

fn a_term(m: u32) -> Term {
    // Rows beyond the last are anything: their results are not stored.
    let row = min(vec4<u32>(m) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.m - 1u));
    let tap = row / p.segment;
    return Term(tap / p.kernel_w * p.dilation_h, tap % p.kernel_w * p.dilation_w, row % p.segment);
}

fn fetch_column4(cursor: Cursor, term: Term) -> vec4<f32> {
    var values: vec4<f32>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let h = cursor.row + term.row[i] - p.pad_top;
        let w = cursor.column + term.column[i] - p.pad_left;
        let inside = (h < p.height) & (w < p.width);
        let at = select(0u, cursor.image + (h * p.width + w) * p.a_stride + term.channel[i], inside);
        values[i] = select(0.0, fetch_a(at), inside);
    }
    return values;
}
