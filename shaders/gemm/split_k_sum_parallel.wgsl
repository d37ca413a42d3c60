// Split-K reduction: results[i] = the sum of partials[s][i] over the splits s. The parallel variant of
// split_k_sum, for results without a fused bias gradient: WORKGROUP / p.columns lanes for each Element of C
// add the splits l, l + lanes, .. in ascending order, and then the lanes are added in a tree; then follows the
// epilogue. Rows of examples that are not valid are neither read nor written. The files sum_stored_*.wgsl define
// where a result is stored.
// uses: scalars, grid, lane_sums

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> partials: array<Element>;
@group(0) @binding(3) var<storage, read_write> results: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(group) * p.columns + local % p.columns;
    let used = index * WIDTH < valid_count(p.count, p.per_example, p.first_example);
    let step = lanes();
    let lane = local / p.columns;
    let stride = p.count / WIDTH;
    // There are at least as many splits as lanes.
    var sum = Element(0.0);
    if (used) {
        sum = partials[lane * stride + index];
        for (var split = lane + step; split < p.splits; split += step) {
            sum += partials[split * stride + index];
        }
    }
    let total = sum_of_lanes(local, sum);
    if (used && lane == 0u) {
        let result = result_index(index);
        results[result] = finished(total, result);
    }
}
