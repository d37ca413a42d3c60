// Batch statistics of each channel: the mean, the biased variance, and 1/sqrt(variance + epsilon). The parallel
// variant of batch_statistics: one workgroup per tile of columns merges the moments of all splits.
// uses: grid, row_tiles, merged_moments

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(3) var<storage, read_write> mean: array<Element>;
@group(0) @binding(4) var<storage, read_write> inv_std: array<Element>;
@group(0) @binding(5) var<storage, read_write> variance: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = row_lane(workgroup_index(group), local);
    let merged = merge_moments(at, local);
    if (at.used && at.lane == 0u) {
        mean[at.column] = merged.mean;
        variance[at.column] = merged.variance;
        inv_std[at.column] = 1.0 / sqrt(merged.variance + p.epsilon);
    }
}
