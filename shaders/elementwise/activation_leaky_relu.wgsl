// Leaky ReLU: x where x > 0, else scalar * x. The derivative at 0 is the scalar.
fn activate(x: vec4<f32>) -> vec4<f32> {
    return select(bitcast<f32>(p.scalar_bits) * x, x, x > vec4<f32>(0.0));
}

fn derivative(x: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(bitcast<f32>(p.scalar_bits)), vec4<f32>(1.0), x > vec4<f32>(0.0));
}
