// y = 0
// uses: elementwise, scalars, grid

@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let count = valid_count(p.elements, p.per_example, 0u);
    if (index * 4u >= count) {
        return;
    }
    store4(index, count, vec4<f32>(0.0));
}
