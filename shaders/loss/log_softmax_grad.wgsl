// dx[n, c] = dy[n, c] - exp(y[n, c]) * sum(dy[n]). One invocation or workgroup per row.
// uses: scalars

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = row_index(group, local);
    let lane = lane_of(local);
    if (row >= valid_count(p.rows, 1u, 0u)) {
        return;
    }
    let base = row * p.classes;
    var sum = 0.0;
    for (var c = lane; c < p.classes; c += LANES) {
        sum += dy[base + c];
    }
    sum = sum_of_lanes(sum, lane);
    for (var c = lane; c < p.classes; c += LANES) {
        dx[base + c] = dy[base + c] - exp(y[base + c]) * sum;
    }
}
