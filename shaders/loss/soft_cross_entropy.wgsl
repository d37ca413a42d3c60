// loss[n] = the sum over c of targets[n, c]*(log(sum of exp(logits[n] - max)) + max - logits[n, c]). One invocation or
// workgroup per row. The same dispatch may also compute the gradient: the files soft_targets_grad_*.wgsl define
// store_gradient.
// uses: softmax_row, scalars, bits, math

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> targets: array<f32>;
@group(0) @binding(4) var<storage, read_write> loss: array<f32>;

const BLOCK: u32 = 32u;

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
    var sum = 0.0;
    // Summed in blocks: the rounding errors of a long sum of similar numbers have the same sign and accumulate.
    for (var first = lane * BLOCK; first < p.classes; first += LANES * BLOCK) {
        var block = 0.0;
        for (var c = first; c < min(first + BLOCK, p.classes); c++) {
            let t = targets[base + c];
            let value = t * (log_sum + (r.max_logit - logits[base + c]));
            // 0 times infinity is NaN, but a class with a target of 0 adds nothing to the loss.
            block += select(value, 0.0, t == 0.0);
        }
        sum += block;
    }
    sum = sum_of_lanes(sum, lane);
    if (lane == 0u) {
        loss[row] = select(sum, float_of(0x7fc00000u), r.non_finite);
    }
    store_gradient(row, lane, r);
}
