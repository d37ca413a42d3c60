// With d = y - t: p.curvature * d^2 / 2 where |d| <= p.threshold, else p.slope * (|d| - p.threshold / 2).
// uses: bits

fn element_loss(y: f32, t: f32) -> f32 {
    let d = abs(y - t);
    let far = p.slope * (d - 0.5 * p.threshold);
    return select(far, 0.5 * p.curvature * d * d, d <= p.threshold);
}

fn element_loss_slope(y: f32, t: f32) -> f32 {
    let d = y - t;
    let far = select(-p.slope, p.slope, d > 0.0);
    let slope = select(far, p.curvature * d, abs(d) <= p.threshold);
    // Comparisons with NaN are false.
    return select(slope, d, is_nan(d));
}
