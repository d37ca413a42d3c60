// (y - t)^2

fn element_loss(y: f32, t: f32) -> f32 {
    return (y - t) * (y - t);
}

fn element_loss_slope(y: f32, t: f32) -> f32 {
    return 2.0 * (y - t);
}
