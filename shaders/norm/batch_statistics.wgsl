// Batch statistics of each channel: the mean, the biased variance, and 1/sqrt(variance + epsilon). Merges the
// moments of the splits in ascending order (Chan, Golub and LeVeque 1979).
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> moments: array<f32>;
@group(0) @binding(3) var<storage, read_write> mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> inv_std: array<f32>;
@group(0) @binding(5) var<storage, read_write> variance: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    if (index >= p.channels) {
        return;
    }
    let rows = valid_count(p.rows, p.rows_per_example, 0u);
    let rows_per_split = (p.rows + p.splits - 1u) / p.splits;
    var merged_mean = 0.0;
    var squares = 0.0;
    for (var s = 0u; s < p.splits; s++) {
        let begin = s * rows_per_split;
        if (begin >= rows) {
            break;
        }
        let end = min(begin + rows_per_split, rows);
        let split_mean = moments[2u * s * p.channels + index];
        let delta = split_mean - merged_mean;
        let fraction = f32(end - begin) / f32(end);
        // The first split sets the mean; its difference from the initial 0 is not used.
        merged_mean = select(merged_mean + delta * fraction, split_mean, s == 0u);
        let between = select(delta * delta * f32(begin) * fraction, 0.0, s == 0u);
        squares += moments[(2u * s + 1u) * p.channels + index] + between;
    }
    let biased_variance = squares / f32(rows);
    mean[index] = merged_mean;
    variance[index] = biased_variance;
    inv_std[index] = 1.0 / sqrt(biased_variance + p.epsilon);
}
