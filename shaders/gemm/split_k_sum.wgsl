// Split-K reduction: results[i] = the sum of partials[s][i] over the splits s, in ascending order, then the
// epilogue. Rows of examples that are not valid are neither read nor written. One invocation per element of C,
// then one per element of the bias gradient.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> partials: array<f32>;
@group(0) @binding(3) var<storage, read_write> results: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    if (index >= p.count) {
        sum_bias_grad(index - p.count);
        return;
    }
    if (index >= valid_count(p.count, p.per_example, p.first_example)) {
        return;
    }
    var sum = partials[index];
    for (var split = 1u; split < p.splits; split++) {
        sum += partials[split * p.count + index];
    }
    results[index] = finished(sum, index);
}
