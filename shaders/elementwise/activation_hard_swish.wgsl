// Hard swish: x times hard sigmoid. The derivative at -3 is 0, and at 3 it is 1.
fn activate(x: vec4<f32>) -> vec4<f32> {
    return x * (min(max(x + 3.0, vec4<f32>(0.0)), vec4<f32>(6.0)) * 0.16666667);
}

fn derivative(x: vec4<f32>) -> vec4<f32> {
    let outside = select(vec4<f32>(0.0), vec4<f32>(1.0), x > vec4<f32>(0.0));
    return select(outside, (2.0 * x + 3.0) * 0.16666667, abs(x) < vec4<f32>(3.0));
}
