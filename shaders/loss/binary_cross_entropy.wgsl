// p.positive_weight * t * log(1 + exp(-y)) + (1 - t) * log(1 + exp(y)), the binary cross-entropy of the logit y.
// uses: math

fn element_loss(y: f32, t: f32) -> f32 {
    let rest = log1p_accurate(exp(-abs(y)));
    return p.positive_weight * t * (max(-y, 0.0) + rest) + (1.0 - t) * (max(y, 0.0) + rest);
}

fn element_loss_slope(y: f32, t: f32) -> f32 {
    let small = exp(-abs(y));
    let large_share = 1.0 / (1.0 + small);
    let small_share = small / (1.0 + small);
    // The logistic functions of y and of -y.
    let positive = select(small_share, large_share, y >= 0.0);
    let negative = select(large_share, small_share, y >= 0.0);
    return (1.0 - t) * positive - p.positive_weight * t * negative;
}
