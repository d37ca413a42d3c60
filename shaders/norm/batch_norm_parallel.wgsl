// Batch normalization by the statistics of the batch: y = (x - mean)*inv_std*scale + shift, with the operations
// that are fused into it as in batch_norm. One workgroup per split and tile of columns. Each merges the moments of
// all splits itself, which takes less time than a dispatch; the workgroups of the first split store the
// statistics.
// uses: grid, row_tiles, merged_moments, norm_relu, norm_rectifier

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(3) var<storage, read> x: array<Element>;
@group(0) @binding(4) var<storage, read> scale: array<Element>;
@group(0) @binding(5) var<storage, read> shift: array<Element>;
@group(0) @binding(6) var<storage, read_write> statistics: array<Element>;
@group(0) @binding(7) var<storage, read_write> y: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = row_lane(workgroup_index(group), local);
    let channels = matrix_columns();
    let step = lanes();
    let end = lane_end(at);
    let merged = merge_moments(at, local);
    let inv_std = 1.0 / sqrt(merged.variance + p.epsilon);
    if (at.used && at.lane == 0u && at.split == 0u) {
        statistics[p.first_mean / WIDTH + at.column] = merged.mean;
        statistics[p.first_inv_std / WIDTH + at.column] = inv_std;
        statistics[p.first_variance / WIDTH + at.column] = merged.variance;
    }
    let factor = scale[at.column];
    let offset = shift[at.column];
    var r = at.split * p.rows_per_split + at.lane;
    // Four loads per iteration, so that they are in flight at the same time.
    for (; r + 3u * step < end; r += 4u * step) {
        let index = r * channels + at.column;
        let x0 = x[index];
        let x1 = x[index + step * channels];
        let x2 = x[index + 2u * step * channels];
        let x3 = x[index + 3u * step * channels];
        store(index, affine((x0 - merged.mean) * inv_std, factor, offset));
        store(index + step * channels, affine((x1 - merged.mean) * inv_std, factor, offset));
        store(index + 2u * step * channels, affine((x2 - merged.mean) * inv_std, factor, offset));
        store(index + 3u * step * channels, affine((x3 - merged.mean) * inv_std, factor, offset));
    }
    for (; r < end; r += step) {
        let index = r * channels + at.column;
        store(index, affine((x[index] - merged.mean) * inv_std, factor, offset));
    }
}

fn store(index: u32, normalized: Element) {
    y[index] = rectified(added(index, normalized));
}
