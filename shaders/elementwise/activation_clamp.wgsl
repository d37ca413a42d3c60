// Clamps x to [scalar, scalar2]. The derivative is 1 strictly inside this interval, else 0.
fn activate(x: vec4<f32>) -> vec4<f32> {
    return min(max(x, vec4<f32>(bitcast<f32>(p.scalar_bits))), vec4<f32>(bitcast<f32>(p.scalar2_bits)));
}

fn derivative(x: vec4<f32>) -> vec4<f32> {
    let inside = (x > vec4<f32>(bitcast<f32>(p.scalar_bits))) & (x < vec4<f32>(bitcast<f32>(p.scalar2_bits)));
    return select(vec4<f32>(0.0), vec4<f32>(1.0), inside);
}
