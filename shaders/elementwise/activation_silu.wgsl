// SiLU: x * logistic(x).
fn activate(x: vec4<f32>) -> vec4<f32> {
    return x * logistic(x);
}

fn derivative(x: vec4<f32>) -> vec4<f32> {
    return logistic(x) + x * (logistic(x) * logistic(-x));
}
