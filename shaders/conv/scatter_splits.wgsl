// results[indices[i]] = the sum of partials[s][i] over the splits s, in ascending order; nothing is stored
// for an index of NO_INDEX. One invocation per index.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> indices: array<u32>;
@group(0) @binding(3) var<storage, read> partials: array<f32>;
@group(0) @binding(4) var<storage, read_write> results: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    if (index >= p.count) {
        return;
    }
    let result_index = indices[index];
    if (result_index == NO_INDEX) {
        return;
    }
    var sum = partials[index];
    for (var split = 1u; split < p.splits; split++) {
        sum += partials[split * p.count + index];
    }
    results[result_index] = sum;
}
