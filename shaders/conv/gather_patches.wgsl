// chosen[(n, oh, ow)][j] = the element of x that term j of the patch under that output pixel names, 0 in the padding and for
// terms that fill up a row, for the images first_row .. first_row + images. One invocation four terms.
// uses: window, scalars, grid

// Row and column from the patch's corner, channel, and 1; or 0 for one that fills up.
@group(0) @binding(2) var<storage, read> terms: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> chosen: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let fours = arrayLength(&terms) / 4u;
    let outputs = p.out_height * p.out_width;
    let index = invocation_number(group, local);
    let row = index / fours;
    if (row >= live(p.images * outputs, outputs, p.first_row)) {
        return;
    }
    let place = row % outputs;
    let image = (p.first_row + row / outputs) * p.height;
    let corner_h = place / p.out_width * p.stride_h;
    let corner_w = place % p.out_width * p.stride_w;
    let first = index % fours * 4u;
    var values: vec4<f32>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let term = terms[first + i];
        let h = corner_h + term.x;
        let w = corner_w + term.y;
        let inside = (term.w != 0u) & row_inside(h) & column_inside(w);
        let at = ((image + h - p.pad_top) * p.width + w - p.pad_left) * p.channels + term.z;
        values[i] = select(0.0, x[select(0u, at, inside)], inside);
    }
    chosen[index] = values;
}
