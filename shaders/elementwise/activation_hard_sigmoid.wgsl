// Hard sigmoid: min(max(x + 3, 0), 6) / 6. The derivative is 1/6 strictly between -3 and 3, else 0.
fn activate(x: vec4<f32>) -> vec4<f32> {
    return min(max(x + 3.0, vec4<f32>(0.0)), vec4<f32>(6.0)) * 0.16666667;
}

fn derivative(x: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(0.16666667), abs(x) < vec4<f32>(3.0));
}
