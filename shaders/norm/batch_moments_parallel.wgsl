// Partial batch statistics: moments[s] = the mean of each channel over the rows of split s, and the sum of
// squared deviations from it. The parallel variant of batch_moments: one workgroup per split and tile of
// columns. The mean is computed from differences to the first row of the split, so that a mean far from 0 does
// not reduce the precision; the second loop over the rows reads them from a cache.
// uses: grid, row_tiles

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> moments: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = row_lane(workgroup_index(group), local);
    let channels = matrix_columns();
    let step = lanes();
    let end = lane_end(at);
    let begin = at.split * p.rows_per_split;
    let is_empty = begin >= end;
    var origin = Element(0.0);
    if (!is_empty) {
        origin = x[begin * channels + at.column];
    }
    var r = begin + at.lane;
    var sum = Element(0.0);
    // Four loads per iteration, so that they are in flight at the same time.
    for (; r + 3u * step < end; r += 4u * step) {
        let offset = r * channels + at.column;
        sum += x[offset] - origin;
        sum += x[offset + step * channels] - origin;
        sum += x[offset + 2u * step * channels] - origin;
        sum += x[offset + 3u * step * channels] - origin;
    }
    for (; r < end; r += step) {
        sum += x[r * channels + at.column] - origin;
    }
    // An empty split has 0 rows, but must not divide by 0.
    let count = f32(max(end, begin + 1u) - begin);
    let mean = origin + sum_of_lanes(local, sum) / count;
    var squares = Element(0.0);
    for (r = begin + at.lane; r + 3u * step < end; r += 4u * step) {
        let offset = r * channels + at.column;
        let d0 = x[offset] - mean;
        let d1 = x[offset + step * channels] - mean;
        let d2 = x[offset + 2u * step * channels] - mean;
        let d3 = x[offset + 3u * step * channels] - mean;
        squares += d0 * d0;
        squares += d1 * d1;
        squares += d2 * d2;
        squares += d3 * d3;
    }
    for (; r < end; r += step) {
        let deviation = x[r * channels + at.column] - mean;
        squares += deviation * deviation;
    }
    let total = sum_of_lanes(local, squares);
    if (at.used && at.lane == 0u) {
        moments[2u * at.split * channels + at.column] = mean;
        moments[(2u * at.split + 1u) * channels + at.column] = total;
    }
}
