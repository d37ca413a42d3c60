// Adjoint of im2col, as a gather: dx[n, h, w, g*C + c] = sum of columns[g][(n, oh, ow)][(kh, kw, c)] over the
// kernel positions (kh, kw) that map an output pixel (oh, ow) to (h, w), in ascending order; C = channels /
// groups. Covers images first_example .. first_example + images. One invocation per Element of dx (one
// channel, or four).
// uses: window, scalars, grid

@group(0) @binding(2) var<storage, read> columns: array<Element>;
@group(0) @binding(3) var<storage, read_write> dx: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let c_count = channels / p.groups;
    let pixels = p.height * p.width;
    let index = invocation_index(group, local);
    if (index >= valid_count(p.images * pixels * channels, pixels * channels, p.first_example)) {
        return;
    }
    let channel = index % channels;
    let pixel = index / channels;
    let image = pixel / pixels;
    let row = pixel % pixels / p.width;
    let column = pixel % p.width;
    let taps = p.kernel_h * p.kernel_w;
    let outputs = p.out_height * p.out_width;
    let patch_row = channel / c_count * p.images * outputs + image * outputs;
    var sum: Element;
    for (var kh = first_kernel_row(); kh < end_kernel_row(); kh++) {
        let oh = output_row(row, kh);
        if (oh == NO_OUTPUT) {
            continue;
        }
        for (var kw = first_kernel_column(kh); kw < end_kernel_column(kh); kw++) {
            let ow = output_column(column, kw);
            if (ow != NO_OUTPUT) {
                let tap = kh * p.kernel_w + kw;
                sum += columns[((patch_row + oh * p.out_width + ow) * taps + tap) * c_count + channel % c_count];
            }
        }
    }
    let offset = p.first_example * pixels * channels + index;
    if (!is_first_part()) {
        sum += dx[offset];
    }
    dx[offset] = sum;
}
