// Functions that several activations use. The built-in tanh is not used, because it has an error of 1e-5 and
// on one driver returns NaN for large x; WGSL has no erf.
fn propagate_nan(x: vec4<f32>, result: vec4<f32>) -> vec4<f32> {
    let nan = (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
    return select(result, x, nan);
}

// 1 / (1 + exp(-x)): the argument of exp is at most 0, so that it cannot overflow.
fn logistic(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(x));
    return select(e, vec4<f32>(1.0), x >= vec4<f32>(0.0)) / (1.0 + e);
}

// tanh with a relative error below 1e-6: near 0 a convergent of Lambert's continued fraction, else (1 - e) /
// (1 + e) with e = exp(-2|x|).
fn tanh_accurate(x: vec4<f32>) -> vec4<f32> {
    let z = x * x;
    let near = x * (945.0 + z * (105.0 + z)) / (945.0 + z * (420.0 + 15.0 * z));
    let e = exp(-2.0 * abs(x));
    let far = sign(x) * (1.0 - e) / (1.0 + e);
    return select(far, near, abs(x) < vec4<f32>(0.5));
}

// The complementary error function for x >= 0, with a relative error of 1.2e-7: a Chebyshev fit of its
// logarithm in 1 / (1 + x / 2) (coefficients: Press et al., Numerical Recipes, section 6.2).
fn erfc_accurate(x: vec4<f32>) -> vec4<f32> {
    let t = 1.0 / (1.0 + 0.5 * x);
    let tail = t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))));
    let fit = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 + tail))));
    // exp(-x^2) is computed from two parts of x^2, because for large x the rounding of x^2 would cause a
    // relative error of 1e-6. `high` has 12 significant bits, so its square is exact.
    let high = bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) & vec4<u32>(0xfffff000u));
    return t * exp(-high * high) * exp((high - x) * (high + x) + fit);
}
