// y = 1 / (elements in use), in each of them.
// uses: elementwise, scalars, grid

@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_number(group, local);
    let count = live(p.elements, p.per_row, 0u);
    if (index * 4u >= count) {
        return;
    }
    store4(index, count, vec4<f32>(1.0 / f32(count)));
}
