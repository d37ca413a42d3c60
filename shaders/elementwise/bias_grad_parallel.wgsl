// sums[s][c] = the sum of dy[r][c] over the rows r of split s: the parallel variant of bias_grad. One
// workgroup per split and tile of columns.
// uses: grid, row_tiles

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> dy: array<Element>;
@group(0) @binding(3) var<storage, read_write> sums: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = row_lane(workgroup_index(group), local);
    let channels = matrix_columns();
    let step = lanes();
    let end = lane_end(at);
    var r = at.split * p.rows_per_split + at.lane;
    var sum = Element(0.0);
    // Four loads per iteration, so that they are in flight at the same time.
    for (; r + 3u * step < end; r += 4u * step) {
        let offset = r * channels + at.column;
        sum += dy[offset];
        sum += dy[offset + step * channels];
        sum += dy[offset + 2u * step * channels];
        sum += dy[offset + 3u * step * channels];
    }
    for (; r < end; r += step) {
        sum += dy[r * channels + at.column];
    }
    let total = sum_of_lanes(local, sum);
    if (at.used && at.lane == 0u) {
        sums[at.split * channels + at.column] = total;
    }
}
