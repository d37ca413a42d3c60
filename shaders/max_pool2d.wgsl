// y = the largest element under the window, position = the number (row-major) of its first tap. NaN counts as the
// largest, so that it stays visible. Padding is never chosen; a window that lies in the padding alone gives minus infinity and no position.
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> position: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let per_image = p.out_height * p.out_width * p.channels;
    let index = invocation_number(group, local);
    if (index >= live(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % p.channels;
    let place = index / p.channels;
    let ow = place % p.out_width;
    let oh = place / p.out_width % p.out_height;
    let image = index / per_image;
    var best = bitcast<f32>(0xff800000u);
    var best_tap = 0xffffffffu;
    for (var kh = 0u; kh < p.kernel_h; kh++) {
        let h = padded_row(oh, kh);
        if (!row_inside(h)) {
            continue;
        }
        for (var kw = 0u; kw < p.kernel_w; kw++) {
            let w = padded_column(ow, kw);
            if (column_inside(w)) {
                let pixel = (image * p.height + h - p.pad_top) * p.width + w - p.pad_left;
                let value = x[pixel * p.channels + channel];
                if (best_tap == 0xffffffffu || value > best || (is_nan(value) && !is_nan(best))) {
                    best = value;
                    best_tap = kh * p.kernel_w + kw;
                }
            }
        }
    }
    y[index] = best;
    position[index] = best_tap;
}
