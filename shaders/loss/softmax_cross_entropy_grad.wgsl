// dlogits[n, c] = ((sum of t)*softmax(logits[n])[c] - t[c]) / (the sum of the labels' weights), with the
// target t of softmax_cross_entropy.wgsl: the gradient of the mean over the valid rows. One invocation per
// row.
// uses: softmax_row, scalars, grid, bits, class_weight

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> class_weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = invocation_index(group, local);
    let rows = valid_count(p.rows, 1u, 0u);
    if (row >= rows) {
        return;
    }
    var divisor = f32(rows);
    if (WEIGHTED) {
        // Each invocation adds the weights in the same order, so that all rows have the same divisor.
        divisor = 0.0;
        for (var r = 0u; r < rows; r++) {
            divisor += class_weight(labels[r]);
        }
    }
    divisor = select(f32(rows), divisor, divisor > 0.0);
    let base = row * p.classes;
    let r = softmax_row(base);
    let label_target = p.label_share * class_weight(labels[row]);
    var target_sum = label_target;
    if (p.class_share > 0.0) {
        var weight_sum = 0.0;
        for (var c = 0u; c < p.classes; c++) {
            weight_sum += class_weight(c);
        }
        target_sum += p.class_share * weight_sum;
    }
    for (var c = 0u; c < p.classes; c++) {
        let class_target = select(0.0, label_target, c == labels[row]) + p.class_share * class_weight(c);
        let value = (target_sum * (exp(logits[base + c] - r.max_logit) / r.sum) - class_target) / divisor;
        dlogits[base + c] = select(value, float_of(0x7fc00000u), r.non_finite);
    }
}
