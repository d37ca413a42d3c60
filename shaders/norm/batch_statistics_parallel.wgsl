// Batch statistics of each channel: the mean, the biased variance, and 1/sqrt(variance + epsilon). The parallel
// variant of batch_statistics: one workgroup per tile of columns merges the moments of all splits. The merged
// mean m is the mean of the splits' means m_s, weighted with their rows n_s and computed from differences to
// the first of them; the sum of squared deviations from m is the sum of all squares_s + n_s*(m_s - m)^2.
// uses: grid, row_tiles

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> moments: array<Element>;
@group(0) @binding(3) var<storage, read_write> mean: array<Element>;
@group(0) @binding(4) var<storage, read_write> inv_std: array<Element>;
@group(0) @binding(5) var<storage, read_write> variance: array<Element>;

// Valid rows of a split.
fn rows_of(split: u32) -> f32 {
    return f32(split_end(split) - split * p.rows_per_split);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = row_lane(workgroup_index(group), local);
    let channels = matrix_columns();
    let step = lanes();
    let rows = valid_rows();
    // Splits with valid rows.
    let splits = select(0u, (rows + p.rows_per_split - 1u) / p.rows_per_split, at.used);
    let origin = moments[at.column];
    var sum = Element(0.0);
    for (var s = at.lane; s < splits; s += step) {
        sum += (moments[2u * s * channels + at.column] - origin) * rows_of(s);
    }
    let merged_mean = origin + sum_of_lanes(local, sum) / f32(rows);
    var squares = Element(0.0);
    for (var s = at.lane; s < splits; s += step) {
        let deviation = moments[2u * s * channels + at.column] - merged_mean;
        squares += moments[(2u * s + 1u) * channels + at.column] + deviation * deviation * rows_of(s);
    }
    let biased_variance = sum_of_lanes(local, squares) / f32(rows);
    if (at.used && at.lane == 0u) {
        mean[at.column] = merged_mean;
        variance[at.column] = biased_variance;
        inv_std[at.column] = 1.0 / sqrt(biased_variance + p.epsilon);
    }
}
