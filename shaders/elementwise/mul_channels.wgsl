// y[.., c] = a[.., c] * b[c], or with one row of b for each example of a: y[n, .., c] = a[n, .., c] * b[n, c].
// uses: elementwise, scalars, grid

@group(0) @binding(2) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let count = valid_count(p.elements, p.per_example, 0u);
    if (index * 4u >= count) {
        return;
    }
    var value = a[index];
    for (var i = 0u; i < 4u; i++) { // unroll
        // Beyond the last element, the value is not stored.
        let at = min(index * 4u + i, count - 1u);
        value[i] *= b[at / p.elements_per_row * p.channels + at % p.channels];
    }
    store4(index, count, value);
}
