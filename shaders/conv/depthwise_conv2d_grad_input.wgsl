// dx = what the output pixels give back, each channel through its own kernel, in ascending order of taps. One invocation RUN
// input pixels of a row, one channel or four. The strides are constants, for division by a constant is cheap.
// uses: window, scalars, grid

@group(0) @binding(2) var<storage, read> dy: array<Element>;
@group(0) @binding(3) var<storage, read> kernel: array<Element>;
@group(0) @binding(4) var<storage, read_write> dx: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let runs = (p.width + RUN - 1u) / RUN;
    let per_image = p.height * runs * channels;
    let index = invocation_number(group, local);
    if (index >= live(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % channels;
    let run = index / channels;
    let line = run / runs;
    let row = line % p.height;
    let image = line / p.height;
    let first = run % runs * RUN;
    var sums: array<Element, RUN>;
    for (var kh = 0u; kh < p.kernel_h; kh++) {
        // Below 0 wraps to far beyond the last.
        let down = row + p.pad_top - kh * p.dilation_h;
        let above = (image * p.out_height + down / STRIDE_H) * p.out_width;
        let begun = row + p.pad_top >= kh * p.dilation_h;
        let in_line = begun & (down % STRIDE_H == 0u) & (down / STRIDE_H < p.out_height);
        for (var kw = 0u; kw < p.kernel_w; kw++) {
            let weight = kernel[(kh * p.kernel_w + kw) * channels + channel];
            for (var step = 0u; step < RUN; step++) { // unroll
                let column = first + step + p.pad_left;
                let along = column - kw * p.dilation_w;
                let inside = in_line & (along % STRIDE_W == 0u) & (along / STRIDE_W < p.out_width)
                    & (column >= kw * p.dilation_w);
                let given = dy[select(0u, (above + along / STRIDE_W) * channels + channel, inside)];
                sums[step] = select(sums[step], sums[step] + given * weight, inside);
            }
        }
    }
    for (var step = 0u; step < RUN; step++) { // unroll
        if (first + step < p.width) {
            dx[(line * p.width + first + step) * channels + channel] = sums[step];
        }
    }
}
