// ReLU6: min(max(x, 0), 6). The derivative is 1 strictly between 0 and 6, else 0.
fn activate(x: vec4<f32>) -> vec4<f32> {
    return min(max(x, vec4<f32>(0.0)), vec4<f32>(6.0));
}

fn derivative(x: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(1.0), (x > vec4<f32>(0.0)) & (x < vec4<f32>(6.0)));
}
