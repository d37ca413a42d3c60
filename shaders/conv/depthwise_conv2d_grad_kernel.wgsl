// sums[s] = the gradient of a kernel [kernel_h, kernel_w, channels] over the output rows of split s, ascending; bias_grad
// adds the splits. One invocation TAPS adjacent taps of a kernel row, one channel or four. The splits
// are in p.groups, for each channel is a group of its own.
// uses: window, scalars, grid

@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> sums: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let parts = p.kernel_h * p.kernel_w / TAPS;
    let index = invocation_number(group, local);
    if (index >= p.groups * parts * channels) {
        return;
    }
    let channel = index % channels;
    let part = index / channels % parts;
    let split = index / channels / parts;
    let kh = part * TAPS / p.kernel_w;
    let kw = part * TAPS % p.kernel_w;
    // Splits are cut by the full batch, so that a row's split does not depend on how many are in use.
    let lines = p.images * p.out_height;
    let length = (lines + p.groups - 1u) / p.groups;
    let end = min((split + 1u) * length, live(lines, p.out_height, 0u));
    var sum: array<Element, TAPS>;
    for (var line = split * length; line < end; line++) {
        let h = padded_row(line % p.out_height, kh);
        let above = (line / p.out_height * p.height + h - p.pad_top) * p.width;
        for (var ow = 0u; ow < p.out_width; ow++) {
            let given = dy[(line * p.out_width + ow) * channels + channel];
            for (var tap = 0u; tap < TAPS; tap++) { // unroll
                let w = padded_column(ow, kw + tap);
                let inside = row_inside(h) & column_inside(w);
                let value = x[select(0u, (above + w - p.pad_left) * channels + channel, inside)];
                sum[tap] = fma(select(Element(0.0), value, inside), given, sum[tap]);
            }
        }
    }
    for (var tap = 0u; tap < TAPS; tap++) { // unroll
        sums[((split * parts + part) * TAPS + tap) * channels + channel] = sum[tap];
    }
}
