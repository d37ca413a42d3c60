// Sigmoid: 1 / (1 + exp(-x)), computed without cancellation for small results.
fn activate(x: vec4<f32>) -> vec4<f32> {
    return logistic(x);
}

fn derivative(x: vec4<f32>) -> vec4<f32> {
    return logistic(x) * logistic(-x);
}
