// sums[s][c] = the sum of dy[r][c] over the rows r of slice s, ascending. Run twice: over slices of the rows, and then
// over the slices' sums as one slice, so that the order is fixed and the grid is wide.
struct Params {
    rows: u32,
    rows_per_row: u32,
    channels: u32,
    slices: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_number(group, local);
    if (index >= p.slices * p.channels) {
        return;
    }
    let channel = index % p.channels;
    let slice = index / p.channels;
    let rows = live(p.rows, p.rows_per_row, 0u);
    // Slices are cut by the full batch, so that a row's slice does not depend on how many are in use.
    let length = (p.rows + p.slices - 1u) / p.slices;
    var sum = 0.0;
    for (var r = slice * length; r < min((slice + 1u) * length, rows); r++) {
        sum += dy[r * p.channels + channel];
    }
    sums[index] = sum;
}
