// dx = the sum of dy over the windows whose first maximum is here, in ascending order of taps. One invocation a channel, or
// four, of an input pixel; of an output pixel, which writes its whole window, where the windows tile the input.
@group(0) @binding(2) var<storage, read> position: array<Words>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> dx: array<Element>;

// What tap `tap` of output `at` gives back.
fn share(at: u32, tap: u32) -> Element {
    return select(Element(0.0), dy[at], position[at] == Words(tap));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let height = select(p.height, p.out_height, TILES);
    let width = select(p.width, p.out_width, TILES);
    let per_image = height * width * channels;
    let index = invocation_number(group, local);
    if (index >= live(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % channels;
    let pixel = index / channels;
    let column = pixel % width;
    let line = pixel / width;
    let row = line % height;
    let image = line / height;
    if (TILES) {
        for (var kh = 0u; kh < p.kernel_h; kh++) {
            for (var kw = 0u; kw < p.kernel_w; kw++) {
                let h = row * p.kernel_h + kh;
                let w = column * p.kernel_w + kw;
                let at = ((image * p.height + h) * p.width + w) * channels + channel;
                dx[at] = share(index, kh * p.kernel_w + kw);
            }
        }
        return;
    }
    var sum = Element(0.0);
    for (var kh = 0u; kh < p.kernel_h; kh++) {
        let oh = output_row(row, kh);
        if (oh == NO_OUTPUT) {
            continue;
        }
        for (var kw = 0u; kw < p.kernel_w; kw++) {
            let ow = output_column(column, kw);
            if (ow != NO_OUTPUT) {
                let at = ((image * p.out_height + oh) * p.out_width + ow) * channels + channel;
                sum += share(at, kh * p.kernel_w + kw);
            }
        }
    }
    dx[index] = sum;
}
