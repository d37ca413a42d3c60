// Partial weight gradients (dW) of a depthwise convolution: partials[s][kh][kw][c] is the sum of x * dy over
// the output pixels of split s, in ascending order; the kernel bias_grad then adds the splits. One invocation
// per TAPS adjacent kernel positions of a kernel row and per Element (one channel, or four). A split is a
// range of output rows, or one of COLUMN_SPLITS ranges of their columns. p.groups is the number of row ranges:
// in a depthwise convolution each channel is its own group.
// uses: window, scalars, grid

@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> partials: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let tap_groups = p.kernel_h * p.kernel_w / TAPS;
    let index = invocation_index(group, local);
    if (index >= p.groups * COLUMN_SPLITS * tap_groups * channels) {
        return;
    }
    let channel = index % channels;
    let tap_group = index / channels % tap_groups;
    let split = index / channels / tap_groups;
    let kh = tap_group * TAPS / p.kernel_w;
    let kw = tap_group * TAPS % p.kernel_w;
    // Splits are fractions of the full batch, so a row's split does not depend on the number of valid rows.
    let output_rows = p.images * p.out_height;
    let rows_per_split = (output_rows + p.groups - 1u) / p.groups;
    let row_split = split / COLUMN_SPLITS;
    let end = min((row_split + 1u) * rows_per_split, valid_count(output_rows, p.out_height, 0u));
    let columns_per_split = (p.out_width + COLUMN_SPLITS - 1u) / COLUMN_SPLITS;
    let first_column = split % COLUMN_SPLITS * columns_per_split;
    let end_column = min(first_column + columns_per_split, p.out_width);
    var sum: array<Element, TAPS>;
    for (var output_row_index = row_split * rows_per_split; output_row_index < end; output_row_index++) {
        let h = padded_row(output_row_index % p.out_height, kh);
        let row_start = (output_row_index / p.out_height * p.height + h - p.pad_top) * p.width;
        for (var ow = first_column; ow < end_column; ow++) {
            let gradient = dy[(output_row_index * p.out_width + ow) * channels + channel];
            for (var tap = 0u; tap < TAPS; tap++) { // unroll
                let w = padded_column(ow, kw + tap);
                let inside = row_inside(h) & column_inside(w);
                let value = x[select(0u, (row_start + w - p.pad_left) * channels + channel, inside)];
                sum[tap] = fma(select(Element(0.0), value, inside), gradient, sum[tap]);
            }
        }
    }
    for (var tap = 0u; tap < TAPS; tap++) { // unroll
        partials[((split * tap_groups + tap_group) * TAPS + tap) * channels + channel] = sum[tap];
    }
}
