// y[n, c] = x[n, c] - log(sum(exp(x[n]))). One invocation or workgroup per row.
// uses: softmax_row, bits, scalars, math

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = row_index(group, local);
    let lane = lane_of(local);
    if (row >= valid_count(p.rows, 1u, 0u)) {
        return;
    }
    let base = row * p.classes;
    let r = softmax_row(base, lane);
    let log_sum = log_accurate(r.sum);
    for (var c = lane; c < p.classes; c += LANES) {
        let value = (logits[base + c] - r.max_logit) - log_sum;
        y[base + c] = select(value, float_of(0x7fc00000u), r.non_finite);
    }
}
