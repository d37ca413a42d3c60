// dx (here y) = dy * slope(x), element by element; which activation is a snippet. A NaN in x stays.
// uses: activation_math, elementwise, scalars, grid

@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_number(group, local);
    let count = live(p.elements, p.per_row, 0u);
    if (index * 4u >= count) {
        return;
    }
    store4(index, count, keep_nan(x[index], dy[index] * slope(x[index])));
}
