// Partial batch statistics: moments[s] = the mean of each channel over the rows of split s, and the sum of
// squared deviations from it. The mean is computed from differences to the first row of the split, so that a
// mean far from 0 does not reduce the precision.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> moments: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let channels = p.channels / WIDTH;
    if (index >= p.splits * channels) {
        return;
    }
    let channel = index % channels;
    let split = index / channels;
    // Splits are fractions of the full batch, so a row's split does not depend on the number of valid rows.
    let rows_per_split = (p.rows + p.splits - 1u) / p.splits;
    let begin = split * rows_per_split;
    let end = min(begin + rows_per_split, valid_count(p.rows, p.rows_per_example, 0u));
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
            let deviation = x[r * channels + channel] - mean;
            squares += deviation * deviation;
        }
    }
    moments[2u * split * channels + channel] = mean;
    moments[(2u * split + 1u) * channels + channel] = squares;
}
