// dlogits[n, c] = ((sum of t)*softmax(logits[n])[c] - t[c]) / (the sum of the labels' weights), with the
// target t of softmax_cross_entropy.wgsl: the gradient of the mean over the valid rows. One invocation or
// workgroup per row.
// uses: softmax_row, scalars, bits, class_weight

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> class_weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = row_index(group, local);
    let lane = lane_of(local);
    let rows = valid_count(p.rows, 1u, 0u);
    if (row >= rows) {
        return;
    }
    var divisor = f32(rows);
    if (WEIGHTED) {
        // The weights are added in the same order for each row, so that all rows have the same divisor.
        divisor = 0.0;
        for (var r = lane; r < rows; r += LANES) {
            divisor += class_weight(labels[r]);
        }
        divisor = sum_of_lanes(divisor, lane);
    }
    divisor = select(f32(rows), divisor, divisor > 0.0);
    let base = row * p.classes;
    let r = softmax_row(base, lane);
    let label_target = p.label_share * class_weight(labels[row]);
    var target_sum = label_target;
    if (p.class_share > 0.0) {
        var weight_sum = 0.0;
        for (var c = lane; c < p.classes; c += LANES) {
            weight_sum += class_weight(c);
        }
        weight_sum = sum_of_lanes(weight_sum, lane);
        target_sum += p.class_share * weight_sum;
    }
    for (var c = lane; c < p.classes; c += LANES) {
        let class_target = select(0.0, label_target, c == labels[row]) + p.class_share * class_weight(c);
        let value = (target_sum * (exp(logits[base + c] - r.max_logit) / r.sum) - class_target) / divisor;
        dlogits[base + c] = select(value, float_of(0x7fc00000u), r.non_finite);
    }
}
