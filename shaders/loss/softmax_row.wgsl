// Row statistics of the softmax kernels: the largest logit, the sum of exp(logit - largest), and whether the
// row has a NaN or an infinite maximum. These two cases are detected explicitly, because the results of `max`
// and `exp` for them depend on the driver. A logit of minus infinity is a class of probability 0. A lane loops
// over every LANES-th class: see row_of_invocation.wgsl and row_of_workgroup.wgsl.
// uses: bits

struct RowStatistics {
    max_logit: f32,
    sum: f32,
    non_finite: bool,
}

fn softmax_row(base: u32, lane: u32) -> RowStatistics {
    var row = RowStatistics(logits[base], 0.0, false);
    for (var c = lane; c < p.classes; c += LANES) {
        row.max_logit = max(row.max_logit, logits[base + c]);
        row.non_finite = row.non_finite | is_nan(logits[base + c]);
    }
    row.non_finite = any_of_lanes(row.non_finite, lane);
    row.max_logit = max_of_lanes(row.max_logit, lane);
    for (var c = lane; c < p.classes; c += LANES) {
        row.sum += exp(logits[base + c] - row.max_logit);
    }
    row.sum = sum_of_lanes(row.sum, lane);
    row.non_finite = row.non_finite | !is_finite(row.max_logit);
    return row;
}
