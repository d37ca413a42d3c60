// GELU's tanh approximation: x * (1 + tanh(u)) / 2 = x * logistic(2u), u = sqrt(2 / pi) * (x + 0.044715 x^3).
fn twice_u(x: vec4<f32>) -> vec4<f32> {
    return 1.5957691 * (x + 0.044715 * x * x * x);
}

fn activate(x: vec4<f32>) -> vec4<f32> {
    return x * logistic(twice_u(x));
}

fn derivative(x: vec4<f32>) -> vec4<f32> {
    let u = twice_u(x);
    return logistic(u) + x * (logistic(u) * logistic(-u)) * (1.5957691 * (1.0 + 0.134145 * x * x));
}
