// x above 0, else option * x. The derivative at 0 is the option, too.
fn activate(x: vec4<f32>) -> vec4<f32> {
    return select(bitcast<f32>(p.option) * x, x, x > vec4<f32>(0.0));
}

fn slope(x: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(bitcast<f32>(p.option)), vec4<f32>(1.0), x > vec4<f32>(0.0));
}
