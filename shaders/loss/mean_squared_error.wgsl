// loss[n] = the mean over the elements of row n of (y - wanted)^2. One workgroup a row: each invocation adds every 64th
// element, and the first adds the sums, so that the order is fixed.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read> wanted: array<f32>;
@group(0) @binding(4) var<storage, read_write> loss: array<f32>;

var<workgroup> part: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = group_number(group);
    // No early return: all of a workgroup must come to the barrier.
    let elements = select(0u, p.per_row, row < live(p.rows, 1u, 0u));
    var sum = 0.0;
    for (var i = local; i < elements; i += WORKGROUP) {
        let difference = y[row * p.per_row + i] - wanted[row * p.per_row + i];
        sum += difference * difference;
    }
    part[local] = sum;
    workgroupBarrier();
    if (local != 0u || elements == 0u) {
        return;
    }
    for (var i = 1u; i < WORKGROUP; i++) {
        sum += part[i];
    }
    loss[row] = sum * p.inverse;
}
