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
    let values = fetch_a4(start + k);
    // 0 beyond the last term, so that there is no tail.
    let inside = vec4<u32>(k) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.k);
    return select(values, vec4<f32>(0.0), vec4<bool>(MASKED) & !inside);
}
