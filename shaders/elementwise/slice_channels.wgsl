// y [.., channels] = x [.., begin .. begin + channels], where x has `source` channels.
// uses: elementwise, scalars, grid

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let count = valid_count(p.elements, p.per_example, 0u);
    if (index * 4u >= count) {
        return;
    }
    var value = vec4<f32>(0.0);
    for (var i = 0u; i < 4u; i++) { // unroll
        // Beyond the last element, the value is not stored.
        let at = min(index * 4u + i, count - 1u);
        value[i] = x[at / p.channels * p.source + p.begin + at % p.channels];
    }
    store4(index, count, value);
}
