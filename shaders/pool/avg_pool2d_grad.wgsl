// Gradient of average pooling: dx = the sum of dy / (number of averaged elements) over the windows that cover
// the pixel, in ascending order of kernel positions. One invocation per input pixel and Element (one channel,
// or four).
// uses: average, window, scalars, grid

@group(0) @binding(2) var<storage, read> dy: array<Element>;
@group(0) @binding(3) var<storage, read_write> dx: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let per_image = p.height * p.width * channels;
    let index = invocation_index(group, local);
    if (index >= valid_count(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % channels;
    let pixel = index / channels;
    let column = pixel % p.width;
    let input_row_index = pixel / p.width;
    let row = input_row_index % p.height;
    let image = input_row_index / p.height;
    var sum = Element(0.0);
    for (var kh = first_kernel_row(); kh < end_kernel_row(); kh++) {
        let oh = output_row(row, kh);
        if (oh == NO_OUTPUT) {
            continue;
        }
        for (var kw = first_kernel_column(kh); kw < end_kernel_column(kh); kw++) {
            let ow = output_column(column, kw);
            if (ow != NO_OUTPUT) {
                let offset = ((image * p.out_height + oh) * p.out_width + ow) * channels + channel;
                sum += dy[offset] / divisor(oh, ow);
            }
        }
    }
    if (!is_first_part()) {
        sum += dx[index];
    }
    dx[index] = sum;
}
