// sums[s][c] = the sum of dy[r][c] over the rows r of split s, ascending. Dispatched twice, over splits of
// the rows and then over the partial sums as one split: the order of summation is fixed, and the grid is
// wide. One invocation per split and Element (one channel, or four).
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> dy: array<Element>;
@group(0) @binding(3) var<storage, read_write> sums: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let channels = p.channels / WIDTH;
    if (index >= p.splits * channels) {
        return;
    }
    let channel = index % channels;
    let split = index / channels;
    let rows = valid_count(p.rows, p.rows_per_example, 0u);
    // Splits are fractions of the full batch, so a row's split does not depend on the number of valid rows.
    let rows_per_split = (p.rows + p.splits - 1u) / p.splits;
    let end = min((split + 1u) * rows_per_split, rows);
    var r = split * rows_per_split;
    var sum = Element(0.0);
    // Four rows per iteration: on software drivers an iteration costs about as much as a row.
    for (; r + 4u <= end; r += 4u) {
        let offset = r * channels + channel;
        sum += dy[offset];
        sum += dy[offset + channels];
        sum += dy[offset + 2u * channels];
        sum += dy[offset + 3u * channels];
    }
    for (; r < end; r++) {
        sum += dy[r * channels + channel];
    }
    sums[index] = sum;
}
