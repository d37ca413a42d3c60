// Row r of A is the patch of images under output pixel r, element by element, for channels that are no multiple of 4:
// one segment over taps and channels. KERNEL_W and CHANNELS are generated, for division by a constant is cheap.
struct Place {
    image: u32,
    row: u32,
    column: u32,
}
alias Start = Place;

fn a_place(base: u32, row: u32) -> Place {
    let pixel = pixel_of(row);
    let line = pixel / p.out_width;
    let image = line / p.out_height * p.height * p.width * p.a_stride;
    return Place(base + image, line % p.out_height * p.stride_h, pixel % p.out_width * p.stride_w);
}

fn a_segment(place: Place, kernel_row: u32, kernel_column: u32) -> Start {
    return place;
}

// 0 beyond the last term, so that there is no tail.
fn fetch_row4(start: Start, k: u32) -> vec4<f32> {
    var values: vec4<f32>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let tap = (k + i) / CHANNELS;
        let h = start.row + tap / KERNEL_W * p.dilation_h - p.pad_top;
        let w = start.column + tap % KERNEL_W * p.dilation_w - p.pad_left;
        let inside = (h < p.height) & (w < p.width) & (k + i < p.k);
        let at = select(0u, start.image + (h * p.width + w) * p.a_stride + (k + i) % CHANNELS, inside);
        values[i] = select(0.0, fetch_a(at), inside);
    }
    return values;
}
