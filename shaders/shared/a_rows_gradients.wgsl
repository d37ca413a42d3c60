// Row r of A is what output pixels give back to input pixel r at stride 1; a segment of k is one tap, all output channels.
struct Place {
    image: u32,
    row: u32,
    column: u32,
}

const NOWHERE = 0xffffffffu;

// Where a segment begins.
alias Start = u32;

fn a_place(base: u32, row: u32) -> Place {
    let line = row / p.width;
    let image = line / p.height * p.out_height * p.out_width * p.a_stride;
    return Place(base + image, line % p.height + p.pad_top, row % p.width + p.pad_left);
}

fn a_segment(place: Place, kernel_row: u32, kernel_column: u32) -> Start {
    // Below 0 wraps to far beyond the last.
    let h = place.row - kernel_row * p.dilation_h;
    let w = place.column - kernel_column * p.dilation_w;
    let pixel = h * p.out_width + w;
    return select(NOWHERE, place.image + pixel * p.a_stride, h < p.out_height && w < p.out_width);
}

fn fetch_row4(start: Start, k: u32) -> vec4<f32> {
    let inside = start != NOWHERE;
    return select(vec4<f32>(0.0), fetch_a4(select(0u, start + k, inside)), inside);
}

fn one_a(base: u32, row: u32, k: u32) -> f32 {
    return 0.0; // A segment is a multiple of 4 long: there is no tail.
}
