// Average pooling: y = the mean of the elements of the window that lie on the image; 0 if the whole window
// lies in the padding. Summed in ascending order of kernel positions. One invocation per output pixel and
// Element (one channel, or four).
// uses: average, window, scalars, grid

@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> y: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let per_image = p.out_height * p.out_width * channels;
    let index = invocation_index(group, local);
    if (index >= valid_count(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % channels;
    let output_pixel = index / channels;
    let ow = output_pixel % p.out_width;
    let output_row_index = output_pixel / p.out_width;
    let oh = output_row_index % p.out_height;
    let image = output_row_index / p.out_height;
    var sum = Element(0.0);
    for (var kh = first_kernel_row(); kh < end_kernel_row(); kh++) {
        let h = padded_row(oh, kh);
        if (!row_inside(h)) {
            continue;
        }
        for (var kw = first_kernel_column(kh); kw < end_kernel_column(kh); kw++) {
            let w = padded_column(ow, kw);
            if (column_inside(w)) {
                let input_pixel = (image * p.height + h - p.pad_top) * p.width + w - p.pad_left;
                sum += x[input_pixel * channels + channel];
            }
        }
    }
    if (!is_first_part()) {
        sum += y[index];
    }
    if (is_last_part()) {
        sum /= divisor(oh, ow);
    }
    y[index] = sum;
}
