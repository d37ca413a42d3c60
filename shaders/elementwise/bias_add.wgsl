// y[.., c] = x[.., c] + bias[c]
// uses: elementwise, scalars, grid

@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let count = valid_count(p.elements, p.per_example, 0u);
    if (index * 4u >= count) {
        return;
    }
    var value = x[index];
    for (var i = 0u; i < 4u; i++) { // unroll
        value[i] += bias[(index * 4u + i) % p.channels];
    }
    store4(index, count, value);
}
