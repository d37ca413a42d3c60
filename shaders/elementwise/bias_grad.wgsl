// sums[s][c] = the sum of dy[r][c] over the rows r of split s, ascending; one channel or four at a time. Run twice: over
// splits of the rows, and then over the splits' sums as one split, so that the order is fixed and the grid is wide.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> dy: array<Element>;
@group(0) @binding(3) var<storage, read_write> sums: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_number(group, local);
    let channels = p.channels / WIDTH;
    if (index >= p.splits * channels) {
        return;
    }
    let channel = index % channels;
    let split = index / channels;
    let rows = live(p.rows, p.rows_per_row, 0u);
    // Splits are cut by the full batch, so that a row's split does not depend on how many are in use.
    let length = (p.rows + p.splits - 1u) / p.splits;
    let end = min((split + 1u) * length, rows);
    var r = split * length;
    var sum = Element(0.0);
    // Four rows a round: a round costs a driver about as much as a row.
    for (; r + 4u <= end; r += 4u) {
        let at = r * channels + channel;
        sum += dy[at];
        sum += dy[at + channels];
        sum += dy[at + 2u * channels];
        sum += dy[at + 3u * channels];
    }
    for (; r < end; r++) {
        sum += dy[r * channels + channel];
    }
    sums[index] = sum;
}
