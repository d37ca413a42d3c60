// Clamps x to [-scalar, scalar]. The derivative is 1 strictly inside this interval, else 0.
fn activate(x: vec4<f32>) -> vec4<f32> {
    let limit = vec4<f32>(bitcast<f32>(p.scalar_bits));
    return min(max(x, -limit), limit);
}

fn derivative(x: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(1.0), abs(x) < vec4<f32>(bitcast<f32>(p.scalar_bits)));
}
