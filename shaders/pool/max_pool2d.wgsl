// Max pooling: y = the largest element of the window, position = the row-major index of its first occurrence
// in the window. NaN counts as the largest, so that it propagates. Padding is never selected; a window that
// lies entirely in the padding gives minus infinity and position 0xffffffff. A window with very many kernel
// positions is divided into several dispatches, which search FIRST_TAP .. END_TAP in turn. One invocation per
// RUN output pixels of a row and per Element (one channel, or four).
// uses: window, scalars, grid, bits

@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> y: array<Element>;
@group(0) @binding(4) var<storage, read_write> position: array<Words>;

fn nan_mask(value: Element) -> Flags {
    return (bitcast<Words>(value) & Words(0x7fffffffu)) > Words(0x7f800000u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let runs = (p.out_width + RUN - 1u) / RUN;
    let per_image = p.out_height * runs * channels;
    let index = invocation_index(group, local);
    if (index >= valid_count(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % channels;
    let run = index / channels;
    let output_row_index = run / runs;
    let oh = output_row_index % p.out_height;
    let image = output_row_index / p.out_height;
    let first = run % runs * RUN;
    for (var ow = first; ow < min(first + RUN, p.out_width); ow++) {
        let offset = (output_row_index * p.out_width + ow) * channels + channel;
        var best = Element(float_of(0xff800000u));
        var best_tap = Words(0xffffffffu);
        if (FIRST_TAP > 0u) {
            best = y[offset];
            best_tap = position[offset];
        }
        for (var tap = FIRST_TAP; tap < END_TAP; tap++) {
            let h = padded_row(oh, tap / KERNEL_W);
            let w = padded_column(ow, tap % KERNEL_W);
            let inside = row_inside(h) & column_inside(w);
            let pixel = (image * p.height + h - p.pad_top) * p.width + w - p.pad_left;
            let value = x[select(0u, pixel * channels + channel, inside)];
            let better = (best_tap == Words(0xffffffffu)) | (value > best) | (nan_mask(value) & !nan_mask(best));
            best = select(best, value, better & Flags(inside));
            best_tap = select(best_tap, Words(tap), better & Flags(inside));
        }
        y[offset] = best;
        position[offset] = best_tap;
    }
}
