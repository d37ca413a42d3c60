// Depthwise convolution, with an optional fused bias (BIAS) and ReLU (RELU). The kernel is [kernel_h,
// kernel_w, channels]; kernel positions are summed in ascending order, as in the GEMM over gathered patches.
// One invocation per RUN adjacent output pixels of a row and per Element (one channel, or four).
// uses: window, not_positive, scalars, grid

@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read> kernel: array<Element>;
// The bias; any buffer may be bound if BIAS is false.
@group(0) @binding(4) var<storage, read> bias: array<Element>;
@group(0) @binding(5) var<storage, read_write> y: array<Element>;

fn epilogue(sum: Element, channel: u32) -> Element {
    var result = sum;
    if (!is_last_part()) {
        return result;
    }
    if (BIAS) {
        result += bias[channel];
    }
    if (RELU) {
        result = select(result, Element(0.0), not_positive(result));
    }
    return result;
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
    var sums: array<Element, RUN>;
    for (var kh = first_kernel_row(); kh < end_kernel_row(); kh++) {
        let h = padded_row(oh, kh);
        let row_start = (image * p.height + h - p.pad_top) * p.width;
        for (var kw = first_kernel_column(kh); kw < end_kernel_column(kh); kw++) {
            let weight = kernel[(kh * p.kernel_w + kw) * channels + channel];
            for (var i = 0u; i < RUN; i++) { // unroll
                let w = padded_column(first + i, kw);
                let inside = row_inside(h) & column_inside(w);
                let value = x[select(0u, (row_start + w - p.pad_left) * channels + channel, inside)];
                sums[i] = fma(select(Element(0.0), value, inside), weight, sums[i]);
            }
        }
    }
    for (var i = 0u; i < RUN; i++) { // unroll
        if (first + i < p.out_width) {
            let offset = (output_row_index * p.out_width + first + i) * channels + channel;
            if (!is_first_part()) {
                sums[i] += y[offset];
            }
            y[offset] = epilogue(sums[i], channel);
        }
    }
}
