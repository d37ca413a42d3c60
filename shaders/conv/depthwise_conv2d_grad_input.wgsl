// Input gradient (dX) of a depthwise convolution, as a gather in ascending order of kernel positions. One
// invocation per RUN adjacent input pixels of a row and per Element (one channel, or four). The strides are
// constants, because division by a constant is fast.
// uses: window, scalars, grid

@group(0) @binding(2) var<storage, read> dy: array<Element>;
@group(0) @binding(3) var<storage, read> kernel: array<Element>;
@group(0) @binding(4) var<storage, read_write> dx: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let runs = (p.width + RUN - 1u) / RUN;
    let per_image = p.height * runs * channels;
    let index = invocation_index(group, local);
    if (index >= valid_count(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % channels;
    let run = index / channels;
    let input_row_index = run / runs;
    let row = input_row_index % p.height;
    let image = input_row_index / p.height;
    let first = run % runs * RUN;
    var sums: array<Element, RUN>;
    for (var kh = first_kernel_row(); kh < end_kernel_row(); kh++) {
        // A negative distance wraps to a value far out of range, because the subtraction is unsigned.
        let distance_h = row + p.pad_top - kh * p.dilation_h;
        let row_start = (image * p.out_height + distance_h / STRIDE_H) * p.out_width;
        let starts_before = row + p.pad_top >= kh * p.dilation_h;
        let valid_h = starts_before & (distance_h % STRIDE_H == 0u) & (distance_h / STRIDE_H < p.out_height);
        for (var kw = first_kernel_column(kh); kw < end_kernel_column(kh); kw++) {
            let weight = kernel[(kh * p.kernel_w + kw) * channels + channel];
            for (var i = 0u; i < RUN; i++) { // unroll
                let column = first + i + p.pad_left;
                let distance_w = column - kw * p.dilation_w;
                let inside = valid_h & (distance_w % STRIDE_W == 0u) & (distance_w / STRIDE_W < p.out_width)
                    & (column >= kw * p.dilation_w);
                let gradient = dy[select(0u, (row_start + distance_w / STRIDE_W) * channels + channel, inside)];
                sums[i] = select(sums[i], sums[i] + gradient * weight, inside);
            }
        }
    }
    for (var i = 0u; i < RUN; i++) { // unroll
        if (first + i < p.width) {
            let offset = (input_row_index * p.width + first + i) * channels + channel;
            if (!is_first_part()) {
                sums[i] += dx[offset];
            }
            dx[offset] = sums[i];
        }
    }
}
