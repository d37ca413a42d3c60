// columns[g][(n, oh, ow)][(kh, kw, c)] = x[n, oh*stride + kh*dilation - pad, .., g*C + c], 0 in the padding, for the
// images first_row .. first_row + images; C = channels / groups. One invocation an element, or four channels if VEC4.
// uses: window, scalars, grid

@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> columns: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let c_count = p.channels / p.groups / WIDTH;
    let depth = p.kernel_h * p.kernel_w * c_count;
    let outputs = p.out_height * p.out_width;
    let index = invocation_number(group, local);
    let row = index / depth;
    let k = index % depth;
    if (row >= live(p.images * outputs, outputs, p.first_row)) {
        return;
    }
    let tap = k / c_count;
    let image = row / outputs;
    let place = row % outputs;
    let h = padded_row(place / p.out_width, tap / p.kernel_w);
    let w = padded_column(place % p.out_width, tap % p.kernel_w);
    var value: Element;
    if (row_inside(h) & column_inside(w)) {
        let pixel = ((p.first_row + image) * p.height + h - p.pad_top) * p.width + w - p.pad_left;
        value = x[pixel * p.groups * c_count + group.z * c_count + k % c_count];
    }
    columns[(group.z * p.images * outputs + row) * depth + k] = value;
}
