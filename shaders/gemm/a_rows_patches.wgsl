// Row r of A is the patch of images under output pixel r; a segment of k is one tap, all channels. For what output pixels
// give back to input pixels, the roles of the images are exchanged, and dilation and padding are negative.
struct Place {
    image: u32,
    row: u32,
    column: u32,
}

const NOWHERE = 0xffffffffu;

fn a_place(base: u32, row: u32) -> Place {
    let pixel = pixel_of(row);
    let line = pixel / p.out_width;
    let image = line / p.out_height * p.height * p.width * p.a_stride;
    return Place(base + image, line % p.out_height * p.stride_h, pixel % p.out_width * p.stride_w);
}

// Where a segment begins.
alias Start = u32;

fn a_segment(place: Place, kernel_row: u32, kernel_column: u32) -> Start {
    // Below 0 wraps to far beyond the last.
    let h = place.row + kernel_row * p.dilation_h - p.pad_top;
    let w = place.column + kernel_column * p.dilation_w - p.pad_left;
    return select(NOWHERE, place.image + (h * p.width + w) * p.a_stride, (h < p.height) & (w < p.width));
}

fn fetch_row4(start: Start, k: u32) -> vec4<f32> {
    let inside = start != NOWHERE;
    return select(vec4<f32>(0.0), fetch_a4(select(0u, start + k, inside)), inside);
}
