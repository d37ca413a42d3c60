// Global average pooling: y[n, c] = the sum of x[n, pixel, c] over the pixels, times 1/pixels. The parallel
// variant of global_avg_pool: each image is a split of the rows; one workgroup per image and tile of columns.
// uses: grid, row_tiles

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> y: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = row_lane(workgroup_index(group), local);
    let channels = matrix_columns();
    let step = lanes();
    let end = lane_end(at);
    let first = at.split * p.rows_per_split;
    var sum = Element(0.0);
    for (var r = first + at.lane; r < end; r += step) {
        sum += x[r * channels + at.column];
    }
    let total = sum_of_lanes(local, sum);
    // An image that is not valid has no rows.
    if (first < end && at.lane == 0u) {
        y[at.split * channels + at.column] = total * p.inverse;
    }
}
