// Stores one row of the gradient of the mean softmax cross-entropy over the valid rows:
// dlogits[n, c] = ((sum of t)*softmax(logits[n])[c] - t[c]) / (the sum of the labels' weights), with the target t of
// softmax_cross_entropy.wgsl. With class weights, the sum of the labels' weights is that of label_weight_sum.wgsl.
// uses: softmax_row, scalars, bits, class_weight

@group(0) @binding(6) var<storage, read> weight_sum: array<f32>;
@group(0) @binding(7) var<storage, read_write> dlogits: array<f32>;

fn store_gradient(row: u32, lane: u32, r: RowStatistics) {
    // Where the weights of all labels are 0, the mean is over the rows.
    var divisor = f32(valid_count(p.rows, 1u, 0u));
    if (WEIGHTED) {
        divisor = select(divisor, weight_sum[0], weight_sum[0] > 0.0);
    }
    let base = row * p.classes;
    let label_target = p.label_share * class_weight(labels[row]);
    var target_sum = label_target;
    if (p.class_share > 0.0) {
        var all_classes = 0.0;
        for (var c = lane; c < p.classes; c += LANES) {
            all_classes += class_weight(c);
        }
        all_classes = sum_of_lanes(all_classes, lane);
        target_sum += p.class_share * all_classes;
    }
    for (var c = lane; c < p.classes; c += LANES) {
        let class_target = select(0.0, label_target, c == labels[row]) + p.class_share * class_weight(c);
        let value = (target_sum * (exp(logits[base + c] - r.max_logit) / r.sum) - class_target) / divisor;
        dlogits[base + c] = select(value, float_of(0x7fc00000u), r.non_finite);
    }
}
