// sums[s][c] = the sum of dy*(x - mean)*inv_std over the rows of split s, ascending.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read> mean: array<Element>;
@group(0) @binding(5) var<storage, read> inv_std: array<Element>;
@group(0) @binding(6) var<storage, read_write> sums: array<Element>;

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
    let center = mean[channel];
    var sum = Element(0.0);
    for (var r = split * length; r < min((split + 1u) * length, rows); r++) {
        sum += dy[r * channels + channel] * (x[r * channels + channel] - center);
    }
    sums[index] = sum * inv_std[channel];
}
