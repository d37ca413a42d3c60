// sums[s][c] = the sum of dy[r][c] over the rows r of split s, in ascending order. Dispatched twice: the
// first dispatch sums the rows of each split, and the second adds these partial sums as the rows of a single
// split. The order of summation is fixed, and the first dispatch has many invocations. One invocation per
// split and Element (one channel, or four).
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
    // Adds four rows per iteration, because on software drivers the overhead of an iteration is about the
    // time of adding one row.
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
