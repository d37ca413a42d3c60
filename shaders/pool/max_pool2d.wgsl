// y = the largest element under the window, position = the number (row-major) of its first tap. NaN counts as the
// largest, so that it stays visible. Padding is never chosen; a window that lies in the padding alone gives minus infinity
// and no position. One invocation RUN output pixels of a row, one channel or four.
// uses: window, scalars, grid, bits

@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> y: array<Element>;
@group(0) @binding(4) var<storage, read_write> position: array<Words>;

fn nan(value: Element) -> Flags {
    return (bitcast<Words>(value) & Words(0x7fffffffu)) > Words(0x7f800000u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let runs = (p.out_width + RUN - 1u) / RUN;
    let per_image = p.out_height * runs * channels;
    let index = invocation_number(group, local);
    if (index >= live(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % channels;
    let run = index / channels;
    let line = run / runs;
    let oh = line % p.out_height;
    let image = line / p.out_height;
    let first = run % runs * RUN;
    for (var ow = first; ow < min(first + RUN, p.out_width); ow++) {
        var best = Element(float_of(0xff800000u));
        var best_tap = Words(0xffffffffu);
        for (var tap = 0u; tap < TAPS; tap++) {
            let h = padded_row(oh, tap / KERNEL_W);
            let w = padded_column(ow, tap % KERNEL_W);
            let inside = row_inside(h) & column_inside(w);
            let pixel = (image * p.height + h - p.pad_top) * p.width + w - p.pad_left;
            let value = x[select(0u, pixel * channels + channel, inside)];
            let better = (best_tap == Words(0xffffffffu)) | (value > best) | (nan(value) & !nan(best));
            best = select(best, value, better & Flags(inside));
            best_tap = select(best_tap, Words(tap), better & Flags(inside));
        }
        let at = (line * p.out_width + ow) * channels + channel;
        y[at] = best;
        position[at] = best_tap;
    }
}
