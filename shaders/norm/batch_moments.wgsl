// moments[s] = the mean of each channel over the rows of split s, and the sum of squares around it. Taken relative to the
// split's first row, so that a mean far from 0 costs no bits.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> moments: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_number(group, local);
    let channels = p.channels / WIDTH;
    if (index >= p.splits * channels) {
        return;
    }
    let channel = index % channels;
    let split = index / channels;
    // Splits are cut by the full batch, so that a row's split does not depend on how many are in use.
    let length = (p.rows + p.splits - 1u) / p.splits;
    let begin = split * length;
    let end = min(begin + length, live(p.rows, p.rows_per_row, 0u));
    var mean = Element(0.0);
    var squares = Element(0.0);
    if (begin < end) {
        let origin = x[begin * channels + channel];
        var sum = Element(0.0);
        for (var r = begin; r < end; r++) {
            sum += x[r * channels + channel] - origin;
        }
        mean = origin + sum / f32(end - begin);
        for (var r = begin; r < end; r++) {
            let off = x[r * channels + channel] - mean;
            squares += off * off;
        }
    }
    moments[2u * split * channels + channel] = mean;
    moments[(2u * split + 1u) * channels + channel] = squares;
}
