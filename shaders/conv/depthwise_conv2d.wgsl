// y = x convolved with a kernel of its own for each channel, [kernel_h, kernel_w, channels]; the taps in ascending order,
// as in the product with gathered patches. One invocation RUN output pixels of a row, one channel or four.
// uses: window, scalars, grid

@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read> kernel: array<Element>;
// Anything, without BIAS.
@group(0) @binding(4) var<storage, read> bias: array<Element>;
@group(0) @binding(5) var<storage, read_write> y: array<Element>;

// x <= 0, and false for NaN, decided on bits as in shared/bits.wgsl.
fn not_positive(x: Element) -> Flags {
    let bits = bitcast<Words>(x);
    return (bits - Words(0x80000000u) <= Words(0x7f800000u)) | (bits == Words(0u));
}

fn ending(sum: Element, channel: u32) -> Element {
    var result = sum;
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
    let index = invocation_number(group, local);
    if (index >= live(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % channels;
    let run = index / channels;
    let line = run / runs;
    let oh = line % p.out_height;
    let image = line / p.out_height;
    let first = run % runs * RUN;
    var sums: array<Element, RUN>;
    for (var kh = 0u; kh < p.kernel_h; kh++) {
        let h = padded_row(oh, kh);
        let above = (image * p.height + h - p.pad_top) * p.width;
        for (var kw = 0u; kw < p.kernel_w; kw++) {
            let weight = kernel[(kh * p.kernel_w + kw) * channels + channel];
            for (var step = 0u; step < RUN; step++) { // unroll
                let w = padded_column(first + step, kw);
                let inside = row_inside(h) & column_inside(w);
                let value = x[select(0u, (above + w - p.pad_left) * channels + channel, inside)];
                sums[step] = fma(select(Element(0.0), value, inside), weight, sums[step]);
            }
        }
    }
    for (var step = 0u; step < RUN; step++) { // unroll
        if (first + step < p.out_width) {
            y[(line * p.out_width + first + step) * channels + channel] = ending(sums[step], channel);
        }
    }
}
