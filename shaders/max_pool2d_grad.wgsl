// dx = the sum of dy over the windows whose first maximum is here, in ascending order of taps.
@group(0) @binding(2) var<storage, read> position: array<u32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let per_image = p.height * p.width * p.channels;
    let index = invocation_number(group, local);
    if (index >= live(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % p.channels;
    let pixel = index / p.channels;
    let column = pixel % p.width;
    let row = pixel / p.width % p.height;
    let image = index / per_image;
    var sum = 0.0;
    for (var kh = 0u; kh < p.kernel_h; kh++) {
        let oh = output_row(row, kh);
        if (oh == NO_OUTPUT) {
            continue;
        }
        for (var kw = 0u; kw < p.kernel_w; kw++) {
            let ow = output_column(column, kw);
            if (ow != NO_OUTPUT) {
                let at = ((image * p.out_height + oh) * p.out_width + ow) * p.channels + channel;
                if (position[at] == kh * p.kernel_w + kw) {
                    sum += dy[at];
                }
            }
        }
    }
    dx[index] = sum;
}
