// columns[g][(n, oh, ow)][(kh, kw, c)] = x[n, oh*stride + kh*dilation - pad, .., g*C + c], 0 in the padding,
// for images first_example .. first_example + images; C = channels / groups. One invocation per Element of
// columns (one channel, or four).
// uses: window, scalars, grid

@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> columns: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let c_count = p.channels / p.groups / WIDTH;
    let depth = p.kernel_h * p.kernel_w * c_count;
    let outputs = p.out_height * p.out_width;
    let index = invocation_index(group, local);
    let row = index / depth;
    let k = index % depth;
    if (row >= valid_count(p.images * outputs, outputs, p.first_example)) {
        return;
    }
    let tap = k / c_count;
    let image = row / outputs;
    let output_pixel = row % outputs;
    let h = padded_row(output_pixel / p.out_width, tap / p.kernel_w);
    let w = padded_column(output_pixel % p.out_width, tap % p.kernel_w);
    var value: Element;
    if (row_inside(h) & column_inside(w)) {
        let input_pixel = ((p.first_example + image) * p.height + h - p.pad_top) * p.width + w - p.pad_left;
        value = x[input_pixel * p.groups * c_count + group.z * c_count + k % c_count];
    }
    columns[(group.z * p.images * outputs + row) * depth + k] = value;
}
