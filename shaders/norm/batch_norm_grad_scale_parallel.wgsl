// Partial scale gradients of a batch normalization: sums[s][c] = the sum of dy*(x - mean)*inv_std over the
// rows of split s. The parallel variant of batch_norm_grad_scale: one workgroup per split and tile of columns.
// If from_variance is set, inv_std_or_variance is a variance and inv_std is 1/sqrt(variance + epsilon).
// uses: grid, row_tiles

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read> mean: array<Element>;
@group(0) @binding(5) var<storage, read> inv_std_or_variance: array<Element>;
@group(0) @binding(6) var<storage, read_write> sums: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = row_lane(workgroup_index(group), local);
    let channels = matrix_columns();
    let step = lanes();
    let end = lane_end(at);
    let center = mean[at.column];
    var r = at.split * p.rows_per_split + at.lane;
    var sum = Element(0.0);
    // Several loads per iteration, so that they are in flight at the same time.
    for (; r + 3u * step < end; r += 4u * step) {
        let offset = r * channels + at.column;
        sum += dy[offset] * (x[offset] - center);
        sum += dy[offset + step * channels] * (x[offset + step * channels] - center);
        sum += dy[offset + 2u * step * channels] * (x[offset + 2u * step * channels] - center);
        sum += dy[offset + 3u * step * channels] * (x[offset + 3u * step * channels] - center);
    }
    for (; r < end; r += step) {
        sum += dy[r * channels + at.column] * (x[r * channels + at.column] - center);
    }
    let total = sum_of_lanes(local, sum);
    if (at.used && at.lane == 0u) {
        var inv_std = inv_std_or_variance[at.column];
        if (p.from_variance != 0u) {
            inv_std = 1.0 / sqrt(inv_std + p.epsilon);
        }
        sums[at.split * channels + at.column] = total * inv_std;
    }
}
