// Partial gradients of scale and shift of a batch normalization: sums[2s][c] = the sum of dy*(x - mean)*inv_std
// over the rows of split s, in ascending order, and sums[2s + 1][c] = the sum of dy. The files
// norm_gradient*.wgsl define dy. If from_variance is set, inv_std_or_variance is a variance and inv_std is
// 1/sqrt(variance + epsilon).
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(4) var<storage, read> mean: array<Element>;
@group(0) @binding(5) var<storage, read> inv_std_or_variance: array<Element>;
@group(0) @binding(6) var<storage, read_write> sums: array<Element>;

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
    let channel_mean = mean[channel];
    var scale_sum = Element(0.0);
    var shift_sum = Element(0.0);
    for (var r = split * rows_per_split; r < min((split + 1u) * rows_per_split, rows); r++) {
        let offset = r * channels + channel;
        let g = gradient(offset, channel);
        scale_sum += g * (x[offset] - channel_mean);
        shift_sum += g;
    }
    var inv_std = inv_std_or_variance[channel];
    if (p.from_variance != 0u) {
        inv_std = 1.0 / sqrt(inv_std + p.epsilon);
    }
    sums[2u * split * channels + channel] = scale_sum * inv_std;
    sums[(2u * split + 1u) * channels + channel] = shift_sum;
}
