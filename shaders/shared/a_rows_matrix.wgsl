// A is a matrix stored by rows: one segment of k.
struct Place {
    start: u32,
}

// Where a segment begins.
alias Start = u32;

fn a_place(base: u32, row: u32) -> Place {
    return Place(base + row * p.a_stride);
}

fn a_segment(place: Place, kernel_row: u32, kernel_column: u32) -> Start {
    return place.start;
}

fn fetch_row4(start: Start, k: u32) -> vec4<f32> {
    return fetch_a4(start + k);
}

fn one_a(base: u32, row: u32, k: u32) -> f32 {
    return fetch_a(base + row * p.a_stride + k);
}
