// Dropout: y = x * scale where the element's random word is at least the threshold, else 0. In the backward
// pass, dy is bound as x and dx as y. The mask is the same as that of graph::Dropout on the host.
// uses: threefry, scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let count = valid_count(p.elements, p.per_example, 0u);
    if (index * 4u >= count) {
        return;
    }
    let elements = vec4<u32>(index * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let key = scalars.seed;
    let words = threefry_first(key, elements, scalars.draw + p.offset);
    // A select instead of a multiplication, so that a dropped NaN becomes 0.
    let value = select(vec4<f32>(0.0), x[index] * p.scale, words >= vec4<u32>(p.threshold));
    if (index * 4u + 4u <= count) {
        y[index] = value;
        return;
    }
    for (var i = 0u; i < 3u; i++) { // unroll
        if (index * 4u + i < count) {
            y[index][i] = value[i];
        }
    }
}
