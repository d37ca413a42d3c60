// GELU: x * P(x) with P(x) = (1 + erf(x / sqrt(2))) / 2, the normal distribution function (Hendrycks and
// Gimpel 2016).
fn normal_cdf(x: vec4<f32>) -> vec4<f32> {
    let tail = 0.5 * erfc_accurate(abs(x) * 0.70710678);
    return select(tail, 1.0 - tail, x > vec4<f32>(0.0));
}

fn activate(x: vec4<f32>) -> vec4<f32> {
    return x * normal_cdf(x);
}

fn derivative(x: vec4<f32>) -> vec4<f32> {
    // 0.39894228 is 1 / sqrt(2 pi); times exp(-x^2 / 2) it is the density of the normal distribution.
    return normal_cdf(x) + x * (0.39894228 * exp(-0.5 * x * x));
}
