// Row r of A is the patch of images under output pixel r; a segment of k is one tap, all channels.
struct Place {
    image: u32,
    row: u32,
    column: u32,
}

const NOWHERE = 0xffffffffu;

// Where a segment begins.
alias Start = u32;

fn a_place(base: u32, row: u32) -> Place {
    let line = row / p.out_width;
    let image = line / p.out_height * p.height * p.width * p.a_stride;
    return Place(base + image, line % p.out_height, row % p.out_width);
}

fn a_segment(place: Place, kernel_row: u32, kernel_column: u32) -> Start {
    let h = padded_row(place.row, kernel_row);
    let w = padded_column(place.column, kernel_column);
    let pixel = (h - p.pad_top) * p.width + w - p.pad_left;
    return select(NOWHERE, place.image + pixel * p.a_stride, row_inside(h) && column_inside(w));
}

fn fetch_row4(start: Start, k: u32) -> vec4<f32> {
    let inside = start != NOWHERE;
    return select(vec4<f32>(0.0), fetch_a4(select(0u, start + k, inside)), inside);
}

fn one_a(base: u32, row: u32, k: u32) -> f32 {
    return 0.0; // A segment is a multiple of 4 long: there is no tail.
}
