// (1 + max(x, 0))^-scalar. The derivative is 0 for x below 0.
// uses: math
fn power(x: vec4<f32>, exponent: f32) -> vec4<f32> {
    // exp(-exponent * log(1 + x)); the logarithm takes no infinity, whose power is 0.
    let base = min(1.0 + max(x, vec4<f32>(0.0)), vec4<f32>(3.0e38));
    let log_base = vec4<f32>(
        log_accurate(base.x),
        log_accurate(base.y),
        log_accurate(base.z),
        log_accurate(base.w),
    );
    return select(exp(-exponent * log_base), vec4<f32>(0.0), x > vec4<f32>(3.0e38));
}

fn activate(x: vec4<f32>) -> vec4<f32> {
    return power(x, bitcast<f32>(p.scalar_bits));
}

fn derivative(x: vec4<f32>) -> vec4<f32> {
    let exponent = bitcast<f32>(p.scalar_bits);
    return select(-exponent * power(x, exponent + 1.0), vec4<f32>(0.0), x < vec4<f32>(0.0));
}
