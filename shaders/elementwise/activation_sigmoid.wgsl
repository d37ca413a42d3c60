// 1 / (1 + exp(-x)), its small values without cancellation.
fn activate(x: vec4<f32>) -> vec4<f32> {
    return logistic(x);
}

fn slope(x: vec4<f32>) -> vec4<f32> {
    return logistic(x) * logistic(-x);
}
