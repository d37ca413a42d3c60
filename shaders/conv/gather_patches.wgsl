// Gathers selected patch elements: gathered[(n, oh, ow)][j] = the element of x that elements[j] selects in
// the patch of output pixel (oh, ow); 0 in the padding and for elements that fill a row up to a multiple of
// 4. Covers images first_example .. first_example + images. One invocation per four elements of a row.
// uses: window, scalars, grid

// Each element is its row and column relative to the corner of the patch, its channel, and 1; or four zeros
// for an element that only pads the row to a multiple of 4.
@group(0) @binding(2) var<storage, read> elements: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> gathered: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let vectors = arrayLength(&elements) / 4u;
    let outputs = p.out_height * p.out_width;
    let index = invocation_index(group, local);
    let row = index / vectors;
    if (row >= valid_count(p.images * outputs, outputs, p.first_example)) {
        return;
    }
    let pixel = row % outputs;
    let image = (p.first_example + row / outputs) * p.height;
    let corner_h = pixel / p.out_width * p.stride_h;
    let corner_w = pixel % p.out_width * p.stride_w;
    let first = index % vectors * 4u;
    var values: vec4<f32>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let element = elements[first + i];
        let h = corner_h + element.x;
        let w = corner_w + element.y;
        let inside = (element.w != 0u) & row_inside(h) & column_inside(w);
        let offset = ((image + h - p.pad_top) * p.width + w - p.pad_left) * p.channels + element.z;
        values[i] = select(0.0, x[select(0u, offset, inside)], inside);
    }
    gathered[index] = values;
}
