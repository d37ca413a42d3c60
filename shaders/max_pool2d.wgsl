// y = the largest element under the window, position = the number (row-major) of its first tap. NaN counts as the
// largest, so that it stays visible. Padding is never chosen; a window that lies in the padding alone gives minus infinity
// and no position. One invocation an output pixel's channel, or four channels.
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> y: array<Element>;
@group(0) @binding(4) var<storage, read_write> position: array<Words>;

fn nan(value: Element) -> Flags {
    return (bitcast<Words>(value) & Words(0x7fffffffu)) > Words(0x7f800000u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let per_image = p.out_height * p.out_width * channels;
    let index = invocation_number(group, local);
    if (index >= live(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % channels;
    let place = index / channels;
    let ow = place % p.out_width;
    let line = place / p.out_width;
    let oh = line % p.out_height;
    let image = line / p.out_height;
    var best = Element(bitcast<f32>(0xff800000u));
    var best_tap = Words(0xffffffffu);
    for (var kh = 0u; kh < p.kernel_h; kh++) {
        let h = padded_row(oh, kh);
        if (!row_inside(h)) {
            continue;
        }
        for (var kw = 0u; kw < p.kernel_w; kw++) {
            let w = padded_column(ow, kw);
            if (column_inside(w)) {
                let pixel = (image * p.height + h - p.pad_top) * p.width + w - p.pad_left;
                let value = x[pixel * channels + channel];
                let better = (best_tap == Words(0xffffffffu)) | (value > best) | (nan(value) & !nan(best));
                best = select(best, value, better);
                best_tap = select(best_tap, Words(kh * p.kernel_w + kw), better);
            }
        }
    }
    y[index] = best;
    position[index] = best_tap;
}
