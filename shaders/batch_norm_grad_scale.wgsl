// sums[s][c] = the sum of dy*(x - mean)*inv_std over the rows of slice s, ascending.
struct Params {
    rows: u32,
    rows_per_row: u32,
    channels: u32,
    slices: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read> mean: array<f32>;
@group(0) @binding(5) var<storage, read> inv_std: array<f32>;
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;

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
    let center = mean[channel];
    var sum = 0.0;
    for (var r = slice * length; r < min((slice + 1u) * length, rows); r++) {
        sum += dy[r * p.channels + channel] * (x[r * p.channels + channel] - center);
    }
    sums[index] = sum * inv_std[channel];
}
