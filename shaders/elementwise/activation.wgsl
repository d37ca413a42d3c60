// y = activate(x), element by element; `activate` is defined in a separate file for each activation.
// Propagates NaN.
// uses: activation_math, elementwise, scalars, grid

@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let count = valid_count(p.elements, p.per_example, 0u);
    if (index * 4u >= count) {
        return;
    }
    store4(index, count, propagate_nan(x[index], activate(x[index])));
}
