// Stores one row of the gradient of the mean soft cross-entropy over the valid rows:
// dlogits[n, c] = ((sum of targets[n])*softmax(logits[n])[c] - targets[n, c]) / rows.
// uses: softmax_row, scalars, bits

@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;

fn store_gradient(row: u32, lane: u32, r: RowStatistics) {
    let rows = f32(valid_count(p.rows, 1u, 0u));
    let base = row * p.classes;
    var target_sum = 0.0;
    for (var c = lane; c < p.classes; c += LANES) {
        target_sum += targets[base + c];
    }
    target_sum = sum_of_lanes(target_sum, lane);
    for (var c = lane; c < p.classes; c += LANES) {
        let share = exp(logits[base + c] - r.max_logit) / r.sum;
        let value = (target_sum * share - targets[base + c]) / rows;
        dlogits[base + c] = select(value, float_of(0x7fc00000u), r.non_finite);
    }
}
