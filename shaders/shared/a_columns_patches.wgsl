// Column k of A is the patch of images under output pixel k: a cursor is that pixel, a term is a tap and a channel.
struct Cursor {
    image: u32,
    row: u32,
    column: u32,
}
struct Term {
    row: u32,
    column: u32,
    channel: u32,
}

fn a_cursor(base: u32, k: u32) -> Cursor {
    let pixel = p.k_first + k;
    let line = pixel / p.out_width;
    let image = line / p.out_height * p.height * p.width * p.a_stride;
    return Cursor(base + image, line % p.out_height * p.stride_h, pixel % p.out_width * p.stride_w);
}

// The cursor at k from the one at k - by. Divisions are slow: a wide map needs none.
fn a_advance(cursor: Cursor, base: u32, k: u32, by: u32) -> Cursor {
    if (NARROW) {
        return a_cursor(base, k);
    }
    var next = cursor;
    next.column += by * p.stride_w;
    if (next.column >= p.out_width * p.stride_w) {
        next.column -= p.out_width * p.stride_w;
        next.row += p.stride_h;
        if (next.row >= p.out_height * p.stride_h) {
            next.row = 0u;
            next.image += p.height * p.width * p.a_stride;
        }
    }
    return next;
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
